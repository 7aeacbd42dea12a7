"""The metric that a search optimises: which ones there can be, and its value in a job."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from dtx.config.build import ConfigError
from dtx.errors import UserError
from dtx.report import read_metrics
from dtx.running.plan import stages
from dtx.stage import Stage
from dtx.store.store import Store
from dtx.text import suggest


def require_known(metric: str, targets: Sequence[Stage], store: Store) -> None:
    """Refuse a metric that no stage of the experiment is known to have.

    Known are the metrics that stages declare as their headline, and those of earlier runs of the same kinds
    of stages in this store. Where nothing is known of a group of metrics (``dt/...``), the first trial tells.

    Raises:
        ConfigError: With the nearest name.
    """
    known = _known(targets, store)
    group = f"{metric.partition('/')[0]}/"
    some = [name for name in known if name.startswith(group)]
    names = {f"{stage.name}/" for stage in stages(targets)} | {"agent/", "dataset/", "dt/"}
    if metric in known or (not some and (group in names or not known)):
        return
    what = (
        f"no stage of this experiment is known to have {metric!r}{suggest(metric, some or known)}"
    )
    if some:
        what += "; others than these are known when the stage has run here once"
    raise ConfigError([("hydra.sweeper.metric", what)])


class NoSuchMetric(UserError):
    """A finished job has no metric of that name."""


def _known(targets: Sequence[Stage], store: Store) -> list[str]:
    """Full names, those that are declared first."""
    declared: dict[str, None] = {}
    for stage in stages(targets):
        full = [name if "/" in name else f"{stage.name}/{name}" for name in stage.headline]
        declared.update(dict.fromkeys(full))
    measured: dict[str, None] = {}
    for name in dict.fromkeys(stage.name for stage in stages(targets)):
        for folder in sorted(store.root.glob(f"{name}-*")):
            with contextlib.suppress(UserError, OSError, ValueError, KeyError):
                measured.update(dict.fromkeys(read_metrics(folder)))
    return list(declared | measured)


def value_in(metric: str, targets: Sequence[Stage], store: Store) -> float:
    """The metric of a finished job; of equal names that of the first stage, not its control's.

    Raises:
        NoSuchMetric: With the nearest name.
        UserError: Its value is missing.
    """
    names: list[str] = []
    for stage in stages(targets):
        if store.where(stage) == "local":
            measured = read_metrics(store.folder(stage))
            names += measured
            if metric in measured:
                value = measured[metric]
                if value is None:
                    raise UserError(f"{metric} is missing: {stage.label} gave no number")
                return value
    raise NoSuchMetric(f"there is no metric {metric!r}{suggest(metric, names)}")
