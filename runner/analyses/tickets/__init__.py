"""Winning tickets (Frankle & Carbin, 2019): retraining of masked networks, and a comparison of the costs."""
