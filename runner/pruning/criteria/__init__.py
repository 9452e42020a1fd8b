"""Pruning criteria, one per file. Each is selected by a file in conf/criterion."""
