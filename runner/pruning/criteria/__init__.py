"""Pruning criteria, which rank members, one per file; each is chosen by a file of conf/criterion."""
