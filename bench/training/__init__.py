"""Quality and speed of training on real data."""
