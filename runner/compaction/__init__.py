"""Smaller networks: cut or packed, and proved equal to the pruned network that they were made from."""
