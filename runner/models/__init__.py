"""Plain networks, each with the layers it offers to dropout and pruning."""
