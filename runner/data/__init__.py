"""Data sets: their splits, batches and augmentation."""
