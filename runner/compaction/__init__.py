"""Cutting and packing of pruned networks, with a proof that the outputs stay the same."""
