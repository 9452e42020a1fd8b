"""The performance of networks that keep only their first k features."""
