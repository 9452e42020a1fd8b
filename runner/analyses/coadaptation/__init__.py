"""The dependence of a trained network's loss on pairs of weights, as in the paper's figure 1 and table 1."""
