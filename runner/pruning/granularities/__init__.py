"""Granularities of pruning (weights, filters, features, …), one per file, each chosen by a file of conf/granularity."""
