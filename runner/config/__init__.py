"""Compose and check configurations, and create the objects that they name. This package does not import torch."""
