"""Gridworlds: one file per environment that can be chosen, and the vector environments under them."""
