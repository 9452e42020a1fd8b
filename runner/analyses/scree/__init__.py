"""How much is left of a network that keeps the first k of its features."""
