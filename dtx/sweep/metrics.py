"""Which metrics of a sweep to show, and their means over seeds."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING

from dtx.errors import UserError
from dtx.report import read_metrics
from dtx.stage import Stage
from dtx.store.store import Store, used
from dtx.sweep.grid import Sweep

if TYPE_CHECKING:
    import pandas as pd

    from dtx.statistics import Estimate

_UNDECLARED = 4  # metrics of a stage that declares no headline
_NEAREST = 3  # names suggested for an unknown one


def is_seed(name: str) -> bool:
    """Whether a swept field repeats the same question."""
    return name.rsplit(".", 1)[-1] == "seed"


def mean_over_seeds(jobs: pd.DataFrame, metric: str, question: str) -> Estimate:
    """The mean over jobs; several with one seed, which differ in further questions, count once."""
    from dtx.statistics import mean_estimate

    seeds = [column for column in jobs if is_seed(str(column)) and column != question]
    if not seeds or not len(jobs):
        return mean_estimate(jobs[metric].to_numpy(float), of="jobs")
    names = jobs[seeds].astype(str).agg("/".join, axis=1).to_numpy()
    return mean_estimate(jobs[metric].to_numpy(float), clusters=names, of="seeds")


def headline_names(sweep: Sweep, store: Store) -> list[str]:
    """Names of the metrics that the sweep's targets declare, the most important of every target first.

    A target that is one and the same in all jobs does not depend on what is swept and is left out, unless
    all are. Of a target that declares none: its first metrics.
    """
    stages: dict[str, dict[str, Stage]] = {}
    for job in sweep.jobs:
        for name, stage in (job.experiment.targets if job.experiment else {}).items():
            stages.setdefault(name, {})[stage.label] = stage
    differ = {name: some for name, some in stages.items() if len(some) > 1} or stages
    with used(store):
        ranked = [
            list(dict.fromkeys(m for stage in some.values() for m in _headline(stage, store)))
            for some in differ.values()
        ]
    return list(dict.fromkeys(m for rank in zip_longest(*ranked) for m in rank if m is not None))


def _headline(stage: Stage, store: Store) -> list[str]:
    if store.where(stage) != "local":
        return []
    if stage.headline:
        return list(stage.headline_metrics())
    return list(read_metrics(stage.path))[:_UNDECLARED]


def matching(names: Sequence[str], patterns: Sequence[str]) -> list[str]:
    """The names that the patterns match, in their order; ``spearman`` stands for ``*/spearman``.

    Raises:
        UserError: A pattern that matches nothing, with the nearest names.
    """
    chosen: dict[str, None] = {}
    for pattern in patterns:
        whole = pattern if "/" in pattern else f"*/{pattern}"
        some = fnmatch.filter(names, whole)
        if not some:
            raise UserError(f"no metric is named {pattern!r}: {_nearest(names, pattern)}")
        chosen.update(dict.fromkeys(some))
    return list(chosen)


def _nearest(names: Sequence[str], wrong: str) -> str:
    if not names:
        return "no finished job has any metric"
    last = {name: name.rpartition("/")[2] for name in names}

    def likeness(name: str) -> float:
        pairs = ((name, wrong), (last[name], wrong.rpartition("/")[2]))
        return max(difflib.SequenceMatcher(None, *pair).ratio() for pair in pairs)

    near = sorted(names, key=likeness, reverse=True)[:_NEAREST]
    return f"did you mean {' or '.join(near)}? `dtx compare --list` prints all {len(names)}"
