"""Analyses of finished runs. Each is a package with its computation and its report."""
