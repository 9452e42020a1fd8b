"""What happens after weights are final: scores, masks, recalibration, the sweep."""
