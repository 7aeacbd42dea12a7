"""The former place of windows of the demonstrations: :mod:`dtx.analysis.core.windows`."""

from dtx.analysis.core.windows import beginnings, missing_steps, real_tokens, sampler

__all__ = ["beginnings", "missing_steps", "real_tokens", "sampler"]
