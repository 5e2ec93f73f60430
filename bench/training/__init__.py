"""Quality and speed of training."""
