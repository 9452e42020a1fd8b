"""The performance of networks that keep only the first k of their features."""
