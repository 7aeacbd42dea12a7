"""What ``dtx plan`` says about a search: trials done and left, and what each of them runs."""

from __future__ import annotations

import dataclasses

from dtx.running.plan import PlannedStage, estimate, in_one_line, plan
from dtx.sweep.search.metric import require_known
from dtx.sweep.search.rounds import progress
from dtx.sweep.search.search import Search


def outlook(search: Search) -> list[str]:
    """Lines on the study, the stages that all trials share, those of each trial, and the time for all.

    Raises:
        ConfigError: The metric is unknown.
    """
    store, first = search.store(), search.first
    targets = list(first.targets.values())
    require_known(search.settings.metric, targets, store)
    study = search.open(make=False)
    left = study.left() if study else search.settings.n_trials
    lines = [f"search {search.name}: {progress(search, study)}"]
    lines.append(f"over {', '.join(search.swept)} for {search.settings.metric}")
    shared = {stage.label for stage in search.shared()}
    steps = plan(targets, store, first.on_drift)
    once = [step for step in steps if step.stage.label in shared]
    # The stages of the sample may be there already, from a trial; those of a new trial are not.
    each = [
        dataclasses.replace(step, action="run", why="")
        for step in steps
        if step.stage.label not in shared
    ]
    if not left:
        return [*lines, "nothing to run"]
    if once:
        lines.append(f"for all trials: {in_one_line(once)}")
    lines.append(f"each of {left} trials: {in_one_line(each)}")
    return [*lines, estimate(once + _times(each, left))]


def _times(steps: list[PlannedStage], count: int) -> list[PlannedStage]:
    """The steps with the time that so many trials take."""
    return [
        dataclasses.replace(s, seconds=None if s.seconds is None else s.seconds * count)
        for s in steps
    ]
