"""Pruning granularities (weights, filters, …), one per file. Each is selected by a file in conf/granularity."""
