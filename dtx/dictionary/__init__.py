"""Sparse dictionaries of a model's activations: trained, stored in SAELens's files, put into models."""
