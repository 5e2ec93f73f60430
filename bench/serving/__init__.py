"""Serving measured over HTTP: Lepton beside llama-server, and OpenVINO GenAI in its process."""
