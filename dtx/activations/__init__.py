"""Activations of models on all windows of demonstrations, stored with what is known of each token."""
