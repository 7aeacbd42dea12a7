"""The former place of :mod:`dtx.dt.load`."""

from dtx.dt.load import check_checkpoint, check_fits, load_at, untrained_like

__all__ = ["check_checkpoint", "check_fits", "load_at", "untrained_like"]
