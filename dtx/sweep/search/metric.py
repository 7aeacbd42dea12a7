"""The metric that a search optimises: which ones there can be, and its value in a job."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from dtx.config.build import ConfigError
from dtx.errors import UserError
from dtx.report import read_metrics
from dtx.run.plan import stages
from dtx.stage import Stage
from dtx.store.store import Store
from dtx.text import suggest


def require_known(metric: str, targets: Sequence[Stage], store: Store) -> None:
    """Refuse a metric that no stage of the experiment has.

    Known are the metrics that the stages declare, and those of earlier runs of the same kinds of stages in
    this store. Where nothing is known, the first trial tells.

    Raises:
        ConfigError: With the nearest name.
    """
    known = _known(targets, store)
    if known and metric not in known:
        what = f"no stage of this experiment has {metric!r}{suggest(metric, known)}"
        raise ConfigError([("hydra.sweeper.metric", what)])


def _known(targets: Sequence[Stage], store: Store) -> list[str]:
    declared: dict[str, None] = {}
    measured: dict[str, None] = {}
    for stage in stages(targets):
        full = [name if "/" in name else f"{stage.name}/{name}" for name in stage.headline]
        declared.update(dict.fromkeys(full))
    for name in dict.fromkeys(stage.name for stage in reversed(stages(targets))):
        for folder in sorted(store.root.glob(f"{name}-*")):
            with contextlib.suppress(UserError, OSError, ValueError, KeyError):
                measured.update(dict.fromkeys(read_metrics(folder)))
    return list(declared | measured)


def value_in(metric: str, targets: Sequence[Stage], store: Store) -> float:
    """The metric of a finished job; of equal names that of the first stage, not its control's.

    Raises:
        UserError: The job has no such metric, or its value is missing.
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
    raise UserError(f"there is no metric {metric!r}{suggest(metric, names)}")
