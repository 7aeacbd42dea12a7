"""Declared counterfactual pairs: the same run twice, with one thing edited."""
