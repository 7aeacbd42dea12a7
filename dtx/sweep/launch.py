"""Run a sweep through one of Hydra's launchers: first the stages that jobs share, then the jobs."""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from dtx.config.compose import OnError, hydra_configs
from dtx.errors import Interrupted, UserError
from dtx.progress import console
from dtx.report import write_atomically
from dtx.running import plan, room
from dtx.running.runner import make_way
from dtx.running.signals import signals
from dtx.stage import Stage
from dtx.store.inventory import remember_run
from dtx.store.needs import protected
from dtx.store.store import Store, use
from dtx.sweep.folders import Folders, make_folders
from dtx.sweep.grid import Job, Sweep
from dtx.sweep.launchers import compose_launcher, launcher_of
from dtx.sweep.parts import STOPPED, LaunchedParts, SweepPart
from dtx.sweep.summary import print_summary
from dtx.sweep.workers import RUNNING, are_children, end_children, launch
from dtx.text import first_line, near

MANIFEST = "sweep.json"
_TRIES = 3  # of jobs whose workers are killed before any of them ends


def run_sweep(sweep: Sweep) -> int:
    """Run missing stages, print a summary with every failure; gives the exit status."""
    from dtx.sweep.shown import ShownSweep

    start = time.monotonic()
    first = sweep.first
    store = use(sweep.store())
    store.reach()
    everything = plan.stages(sweep.targets())
    ran: set[str] = set()
    with protected(store.root, [s.label for s in everything]), signals():
        again = plan.to_run_again(everything, store, first.on_drift)
        todo = sweep.missing_of_jobs(store, again)
        every = list({s.label: s for stages in todo.values() for s in stages}.values())
        if sweep.here:
            room.require(every, store.root, first.resources)
        room.warn_if_long(every)
        if every:
            make_way(every, store, again)
            ran = run_parts(sweep, [todo], store)
        else:
            _make_up_for_lost_tracking(sweep, everything, todo, store)
    labels = [s.label for s in everything]
    remember_run(store.root, first.name, sweep.overrides, labels)
    for job in sweep.jobs:
        job.status = job.status or "cached"
    print_summary(sweep, len(ran), time.monotonic() - start)
    ShownSweep(sweep).print_review()
    return 1 if any(j.status in ("failed", "skipped") for j in sweep.jobs) else 0


def _make_up_for_lost_tracking(
    sweep: Sweep, everything: list[Stage], todo: dict[int, list[Stage]], store: Store
) -> None:
    """Show in MLflow what it lacks, when no job is left to run."""
    from dtx.sweep.shown import ShownSweep
    from dtx.tracking import is_behind, only_told

    with only_told():
        if is_behind(sweep.first.tracking, everything, ShownSweep(sweep).command):
            run_parts(sweep, [todo], store)


def run_parts(sweep: Sweep, rounds: Iterable[dict[int, list[Stage]]], store: Store) -> set[str]:
    """Run the jobs of a sweep and show it in MLflow.

    Args:
        sweep: A round may add jobs to it.
        rounds: The stages that jobs have to run, by number of the job; a grid has one round.
        store: Where the artefacts are.

    Returns:
        Labels of the stages that ran.
    """
    from dtx.sweep.shown import ShownSweep

    rounds = iter(rounds)
    first = next(rounds, None)
    if first is None:
        return set()
    tracking, folders = ShownSweep(sweep), _folders(sweep, first)
    folder = folders.sweep
    with tracking.open() as shown:
        ran: set[str] = set()
        failed: dict[str, str] = {}
        parent = shown.run_id if shown else None
        launched: set[int] = set()
        launcher = _Launcher(sweep, folders, parent, frozenset(store.only_here))
        try:
            for todo in chain([first], rounds):
                for parts in _phases(sweep, todo, folders):
                    for part, result in launcher.launch(_runnable(parts, todo, failed), failed):
                        _record(sweep.jobs[part.job], part, result, ran, failed)
                        if part.only is None:
                            launched.add(part.job)
                _set_statuses(sweep, todo, ran, failed)
            console.print(f"logs: {near(folder)}", soft_wrap=True)
        except BaseException:
            end_children(folder)
            raise
        finally:
            _write_manifest(sweep, folder)
        if shown:
            tracking.finish(shown, store, folder, ran, failed, launched)
    if shown:
        shown.server.raise_if_broken(store.root)
    return ran


def _shared(todo: Mapping[int, list[Stage]]) -> set[str]:
    """Labels of the stages that several jobs have to run."""
    count = Counter(s.label for stages in todo.values() for s in stages)
    return {label for label, n in count.items() if n > 1}


def _with_own_stages(todo: Mapping[int, list[Stage]]) -> list[int]:
    """Numbers of the jobs that have stages of their own to run."""
    shared = _shared(todo)
    return [n for n, stages in todo.items() if any(s.label not in shared for s in stages)]


def _folders(sweep: Sweep, todo: Mapping[int, list[Stage]]) -> Folders:
    """The sweep's folder, and those of the jobs that have stages of their own to run."""
    folders = make_folders(sweep, _with_own_stages(todo))
    (folders.sweep / STOPPED).unlink(missing_ok=True)
    shutil.rmtree(folders.sweep / RUNNING, ignore_errors=True)  # of a sweep that was killed
    return folders


def _phases(sweep: Sweep, todo: dict[int, list[Stage]], folders: Folders) -> list[list[SweepPart]]:
    """Shared stages by level, then the jobs that have stages of their own to run."""
    shared = _shared(todo)
    jobs_of = sweep.stages_of_jobs()
    level: dict[str, int] = {}
    first: dict[str, tuple[int, Stage]] = {}
    for number, stages in todo.items():
        for stage in stages:  # inputs first
            if stage.label in shared and stage.label not in level:
                inputs = [level[s.label] for s in stage.inputs().values() if s.label in level]
                level[stage.label] = 1 + max(inputs, default=-1)
                first[stage.label] = (number, stage)
    phases: list[list[SweepPart]] = [[] for _ in range(1 + max(level.values(), default=-1))]
    for label, (number, _) in first.items():
        common = _in_common(jobs_of[label])
        phases[level[label]].append(SweepPart(number, label, common, folders.shared(label)))
    own = _with_own_stages(todo)
    folders.add(sweep, own)
    phases.append(
        [SweepPart(n, None, sweep.jobs[n].swept, folders.jobs[n], sweep.jobs[n].watch) for n in own]
    )
    return [p for p in phases if p]


def _in_common(jobs: Sequence[Job]) -> dict[str, str]:
    """The swept fields that have the same value in all of these jobs."""
    first, *others = jobs
    return {k: v for k, v in first.swept.items() if all(j.swept[k] == v for j in others)}


def _runnable(
    parts: Sequence[SweepPart], todo: Mapping[int, list[Stage]], failed: Mapping[str, str]
) -> list[SweepPart]:
    """Parts whose inputs have not failed."""

    def possible(part: SweepPart) -> bool:
        lost = set(failed)
        for stage in todo[part.job]:
            if stage.label in lost or any(s.label in lost for s in stage.inputs().values()):
                lost.add(stage.label)
            elif part.only in (None, stage.label):
                return True
        return False

    return [p for p in parts if possible(p)]


def _record(
    job: Job,
    part: SweepPart,
    result: Mapping[str, Any],
    ran: set[str],
    failed: dict[str, str],
) -> None:
    """Record the result of a part in ``job``, ``ran`` and ``failed``."""
    for label, status, error in result["stages"]:
        if status == "ran":
            ran.add(label)
        if status == "failed":
            failed.setdefault(label, error)
    if part.only and result["status"] != "ran":
        failed.setdefault(part.only, result["error"])
    if part.only is None or result["status"] != "ran":
        job.status, job.error, job.log = result["status"], result["error"], result["log"]


def _set_statuses(
    sweep: Sweep,
    todo: Mapping[int, list[Stage]],
    ran: set[str],
    failed: Mapping[str, str],
) -> None:
    """Set the status of jobs that had no stages of their own to run, or whose inputs failed."""
    for job in sweep.jobs:
        labels = [s.label for s in todo.get(job.number, ())]  # none: of an earlier round
        lost = [label for label in labels if label in failed]
        if job.status in ("", "ran") and lost:
            job.status, job.error = "failed", f"needs {lost[0]}: {failed[lost[0]]}"
        elif not job.status and any(label in ran for label in labels):
            job.status = "ran"
        job.status = job.status or "cached"


class _Launcher:
    """Hydra's launcher as the sweep's overrides choose it."""

    def __init__(
        self, sweep: Sweep, folders: Folders, parent: str | None, only_here: frozenset[str]
    ):
        self.sweep, self.folders, self.parent, self.only_here = sweep, folders, parent, only_here
        self.folder, self.launched = folders.sweep, 0

    def launch(
        self, parts: list[SweepPart], failed: Mapping[str, str]
    ) -> list[tuple[SweepPart, dict[str, Any]]]:
        """Run some parts, in parallel if the launcher can, and wait for all."""
        left = [replace(part, failed=dict(failed)) for part in parts]
        results: list[tuple[SweepPart, dict[str, Any]]] = []
        in_vain = 0
        while left:
            try:
                returned = self._launch(left)
            except UserError as error:
                if self.launched == 0:
                    raise
                end_children(self.folder)
                return results + [(part, _not_run(str(error))) for part in left]
            self.launched += len(left)
            ended = [(p, r) for p, r in zip(left, returned, strict=True) if r is not None]
            left = [p for p, r in zip(left, returned, strict=True) if r is None]
            results += ended
            if self.sweep.first.on_error is OnError.STOP and any(
                result["status"] == "failed" for _, result in ended
            ):
                (self.folder / STOPPED).touch()
            in_vain = 0 if ended else in_vain + 1
            if in_vain == _TRIES:
                return results + [(part, _not_run("its workers were killed")) for part in left]
            if left:
                console.print(
                    f"a worker was killed; {len(left)} jobs that had not ended begin again"
                )
        return results

    def _launch(self, parts: list[SweepPart]) -> list[dict[str, Any] | None]:
        from hydra._internal.callbacks import Callbacks
        from hydra.core.global_hydra import GlobalHydra
        from hydra.types import HydraContext

        on_error = self.sweep.first.on_error
        with hydra_configs(self.sweep.config_dir):
            hydra = GlobalHydra.instance().hydra
            assert hydra is not None
            config = compose_launcher(hydra, self._overrides())
            task = LaunchedParts(
                parts,
                self.launched,
                self.folder,
                self.folders.log,
                self.folders.settings,
                self.parent,
                on_error,
                self.only_here,
            )
            context = HydraContext(config_loader=hydra.config_loader, callbacks=Callbacks(config))
            jobs = [list(self.sweep.jobs[part.job].overrides) for part in parts]
            launcher = launcher_of(config, context, task)
            task.ends_with = are_children(launcher)
            try:
                return launch(launcher, jobs, self.launched, self.folder)
            except KeyboardInterrupt:  # while Ray waits, all signals raise this
                raise Interrupted("SIGINT") from None
            except Exception as error:
                kind = type(launcher).__name__
                raise UserError(f"{kind} cannot launch jobs: {first_line(error)}") from error

    def _overrides(self) -> list[str]:
        """The user's, and folders that Hydra makes nothing in: each part has its own."""
        from hydra.core.override_parser.types import Quote, QuotedString

        name = str(self.folder).replace("${", r"\${")  # a name, not a reference
        return [
            *self.sweep.hydra,
            *self.sweep.first.overrides,
            f"hydra.sweep.dir={QuotedString(name, Quote.single).with_quotes()}",
            "hydra.sweep.subdir=.",
            "hydra.output_subdir=null",
            "hydra/hydra_logging=disabled",
            "hydra/job_logging=disabled",
        ]


def _not_run(why: str) -> dict[str, Any]:
    return {"status": "failed", "error": f"not run: {why}", "log": "", "stages": []}


def _write_manifest(sweep: Sweep, folder: Path) -> None:
    """Write the file by which ``dtx compare`` finds the sweep."""
    manifest = {
        "overrides": sweep.overrides,
        "config_dir": str(sweep.config_dir.resolve()) if sweep.config_dir else None,
        "jobs": [{"swept": j.swept, "status": j.status, "error": j.error} for j in sweep.jobs],
    }
    write_atomically(folder / MANIFEST, json.dumps(manifest, indent=1) + "\n")
