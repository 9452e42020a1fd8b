"""Compose configurations with Hydra, check them, and build the objects they name. Does not import torch."""
