"""The explorer: play an environment, steer a model, see why; one page with two engines."""
