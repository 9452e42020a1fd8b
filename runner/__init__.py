"""run: an experiment runner for networks that survive pruning."""

__version__ = "0.1.0"
