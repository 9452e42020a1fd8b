"""What is learned from: whole data sets in memory, their splits, batches and augmentation."""
