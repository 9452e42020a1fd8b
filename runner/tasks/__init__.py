"""Tasks: the loss of a batch, the metrics of a split, and the headline metric."""
