"""Networks that are smaller: cut, packed, and proved equal to the pruned network that they come from."""
