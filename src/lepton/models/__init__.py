"""Models: architectures as typed stages, weight formats, tokenizers, catalogue and executors."""
