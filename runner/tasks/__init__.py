"""What "good" means: the loss of a batch, the metrics of a split, the headline."""
