"""Analyses of finished runs. Each one is a package that contains its computation and its report."""
