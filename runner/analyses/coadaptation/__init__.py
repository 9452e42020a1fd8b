"""How much the loss of a trained network depends on pairs of its weights: the paper's figure 1 and table 1."""
