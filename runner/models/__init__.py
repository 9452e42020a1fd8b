"""Plain networks, and the layers that they offer to dropout and pruning."""
