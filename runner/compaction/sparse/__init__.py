"""Execution of pruned networks on a processor without their zeros."""
