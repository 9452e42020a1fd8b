"""Plain networks, with the layers that they offer to dropout and pruning."""
