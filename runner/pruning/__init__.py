"""Pruning after training: scores, masks, recalibration and the sweep."""
