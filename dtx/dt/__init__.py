"""Decision Transformers: model, windows, training and rollouts."""
