"""Winning tickets (Frankle & Carbin, 2019): masked networks trained anew, and what they cost beside other ways."""
