"""Analyses of finished runs: a package each, with its computation and its report."""
