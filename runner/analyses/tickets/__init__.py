"""Winning tickets (Frankle & Carbin, 2019): masked networks trained again, and their costs in comparison."""
