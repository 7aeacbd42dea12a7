"""Run a search: rounds of trials until there are enough, then the best of them."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator

from rich.markup import escape
from rich.table import Table

from dtx.config.compose import OnError
from dtx.config.options import own_configs
from dtx.errors import UserError
from dtx.progress import console
from dtx.running import plan, room
from dtx.running.runner import make_way
from dtx.running.signals import signals
from dtx.stage import Stage
from dtx.store import locks
from dtx.store.aside import LOCKS
from dtx.store.inventory import remember_run
from dtx.store.needs import protected
from dtx.store.store import Store, use
from dtx.sweep.grid import Job
from dtx.sweep.launch import run_parts
from dtx.sweep.search.metric import NoSuchMetric, require_known, value_in
from dtx.sweep.search.search import Search
from dtx.sweep.search.settings import Direction
from dtx.sweep.search.study import Study, TrialRecord
from dtx.sweep.shown import ShownSweep
from dtx.sweep.summary import print_summary
from dtx.text import near, say

_SHOWN = 10  # trials in the final table


def run_search(search: Search) -> int:
    """Run trials until ``n_trials`` have ended, and print the best; gives the exit status.

    Raises:
        UserError: The metric is unknown, or another command runs this search.
    """
    start = time.monotonic()
    store = use(search.store())
    store.reach()
    require_known(search.settings.metric, list(search.first.targets.values()), store)
    label = f"search-{search.identity}"
    with signals(), locks.free(store.root / LOCKS, label) as is_free:
        if not is_free:
            raise UserError(
                f"search {search.name} is run by another command; wait until it has ended"
            )
        study = search.open(make=True)
        assert study is not None
        before = len(study.ended())
        study.try_failed_again()
        console.print(f"search {search.name}: {progress(search, study)}", soft_wrap=True)
        ran: set[str] = set()
        if study.left():
            ran = run_parts(search, _rounds(search, study, store), store)
        ended = study.ended()
    labels = [s.label for s in plan.stages(search.targets())]
    remember_run(store.root, search.first.name, search.overrides, labels)
    print_summary(search, len(ran), time.monotonic() - start)
    new = f"{len(ended) - before} new" if before else "all new"
    console.print(f"search {search.name}: {progress(search, study)} ({new})", soft_wrap=True)
    _print_best(search, ended)
    ShownSweep(search).print_review()
    return 1 if study.left() or any(trial.state == "failed" for trial in ended) else 0


def progress(search: Search, study: Study | None) -> str:
    """``7 of 12 trials done (6 complete, 1 pruned), 5 left``."""
    ended = study.ended() if study else []
    states = [trial.state for trial in ended]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    left = max(0, search.settings.n_trials - len(ended))
    detail = f" ({counts})" if counts else ""
    return f"{len(ended)} of {search.settings.n_trials} trials done{detail}, {left} left"


def _rounds(search: Search, study: Study, store: Store) -> Iterator[dict[int, list[Stage]]]:
    """The stages to run of each round's jobs; after a round its results are told to the study."""
    first = search.first
    while trials := study.next_round():
        jobs = [search.add(trial) for trial in trials]
        everything = plan.stages(search.targets())
        with protected(store.root, [stage.label for stage in everything]):
            needed = plan.stages([target for job in jobs for target in job.targets()])
            again = plan.to_run_again(needed, store, first.on_drift)
            todo = {job.number: plan.missing(job.targets(), store, again) for job in jobs}
            every = list({s.label: s for some in todo.values() for s in some}.values())
            if search.here:
                room.require(every, store.root, first.resources)
            make_way(every, store, again)
            yield todo
        lost = [stage.label for stage in search.shared() if stage in every and not store.has(stage)]
        if lost:  # no fault of the trials: they are run again by the next command
            say(f"error: {lost[0]}, which every trial needs, failed: the search ends here")
            return
        has_metric = [_tell(search, study, job, store) for job in jobs]
        if False in has_metric and not any(job.status in ("ran", "cached") for job in search.jobs):
            what = next(
                job.error for job, has in zip(jobs, has_metric, strict=True) if has is False
            )
            say(f"error: hydra.sweeper.metric: {what}: the search ends here")
            return
        if first.on_error is OnError.STOP and any(job.status == "failed" for job in jobs):
            return


def _tell(search: Search, study: Study, job: Job, store: Store) -> bool | None:
    """Tell the study how a trial came out; gives whether it has the metric, None if that is not known."""
    has_metric = None
    number = search.trials[job.number].number
    if job.status == "pruned":
        study.pruned(number)
    elif job.status in ("ran", "cached"):
        try:
            value = value_in(search.settings.metric, job.targets(), store)
            watch = search.watches.get(job.number)
            study.complete(number, value, watch.curve(store.root / watch.label) if watch else {})
            has_metric = True
        except UserError as error:
            job.status, job.error = "failed", str(error)
            has_metric = not isinstance(error, NoSuchMetric)
    if job.status == "failed":
        study.failed(number, job.error)
    return has_metric  # a job that was skipped is not told: the next command runs it


def _print_best(search: Search, ended: list[TrialRecord]) -> None:
    """A table of the best trials, and the command that runs the best one."""
    sign = 1 if search.settings.direction is Direction.MINIMIZE else -1
    complete = [(sign * t.value, t) for t in ended if t.value is not None]
    if not complete:
        return
    best = [trial for _, trial in sorted(complete, key=lambda pair: pair[0])]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("trial", search.settings.metric, *search.swept):
        table.add_column(column, overflow="fold")
    for trial in best[:_SHOWN]:
        values = [escape(trial.values.get(name, "-")) for name in search.swept]
        table.add_row(str(trial.number), f"{trial.value:.4g}", *values)
    console.print(table)
    given = search.config_dir if search.config_dir != own_configs() else None
    own = [f"--config-dir={near(given)}"] if given else []
    values = [f"{name}={value}" for name, value in best[0].values.items()]
    command = shlex.join(["dtx", "run", *own, *search.fixed, *values])
    console.print(f"the best: {command}", markup=False, soft_wrap=True)
