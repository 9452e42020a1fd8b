"""Composition and checks of configurations, and creation of the objects that they name. Does not import torch."""
