"""Run what is missing, in order, and commit each stage."""

from __future__ import annotations

import contextlib
import errno
import os
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from rich.markup import escape

from dtx.beside import free_disk
from dtx.config.compose import Experiment, OnError
from dtx.errors import Interrupted, UserError
from dtx.progress import console, duration, report_to
from dtx.running import plan, room
from dtx.running.names import Names
from dtx.running.outcome import StageOutcome
from dtx.running.provenance import cpu_seconds, peak_memory_mb, provenance
from dtx.running.roles import titles
from dtx.running.signals import defer_signals, raise_signal_before, signals
from dtx.running.tracker import Tracker
from dtx.stage import Stage
from dtx.store.inventory import remember_run
from dtx.store.needs import protected
from dtx.store.store import Store, use

_DISK_ERRORS = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.EFBIG,
    errno.EIO,
)


class DiskError(UserError):
    """A disk that is full or cannot be written: every other stage would fail as well."""


class StagesFailed(UserError):
    """At least one stage failed; stages that do not depend on it are done, unless ``on_error=stop``.

    Attributes:
        outcomes: Of every stage.
        defect: Whether an exception other than a UserError was among them.
    """

    def __init__(self, outcomes: Sequence[StageOutcome]):
        failed = [o for o in outcomes if o.status == "failed"]
        self.outcomes, self.defect = list(outcomes), any(o.defect for o in failed)
        # The message of a single stage stands alone; among several, each line names its stage.
        name = len(failed) > 1 or self.defect
        super().__init__(
            "\n".join(
                f"{o.stage.label}: {line}" if name else line
                for o in failed
                for line in o.error.splitlines()
            )
        )


def run(
    experiment: Experiment,
    *,
    only: str | None = None,
    parent: str | None = None,
    swept: dict[str, str] | None = None,
    failed: dict[str, str] | None = None,
    only_here: Iterable[str] = (),
    begins: Callable[[], None] = lambda: None,
) -> list[StageOutcome]:
    """Run what is missing and give the outcome of every stage, inputs first.

    Args:
        experiment: What is wanted.
        only: Label of the one stage to run, instead of the experiment's targets.
        parent: MLflow run of the sweep that this is a part of; without, the experiment gets a run.
        swept: Swept fields of this job of a sweep: its name in MLflow.
        failed: Stages by label that failed in another part of the sweep, with their errors; not tried again.
        only_here: Labels of stages that are made here though the remote store has them (from older code).
        begins: Called before the first stage is run, if any is.

    Raises:
        UserError: Something the user can correct; finished stages and unfinished work are kept.
        StagesFailed: Stages failed; all stages that do not depend on them are done.
        Interrupted: Ctrl-C or SIGTERM; the same command goes on from there.
    """
    store = use(Store.of(experiment.store))
    store.only_here.update(only_here)
    targets = list(experiment.targets.values())
    if only:
        targets = [s for s in plan.stages(targets) if s.label == only]
    everything = plan.stages(targets)
    store.reach()
    with disk_errors(store.root), protected(store.root, [s.label for s in everything]):
        again = plan.to_run_again(everything, store, experiment.on_drift)
        todo = plan.missing(targets, store, again)
        room.require(todo, store.root, experiment.resources)
        room.warn_if_long(todo)
        with signals():
            outcomes = _reused(everything, targets, todo, store)
            if todo:
                begins()
                store.root.mkdir(parents=True, exist_ok=True)
                make_way(todo, store, again)
                swept = None if only else swept
                _track_and_run(experiment, todo, outcomes, store, parent, swept, failed)
            elif not parent:
                _make_up_for_lost_tracking(experiment, everything, outcomes, store)
            store.push_all(s for s in everything if store.where(s) == "local")
        if not parent and not only:
            labels = [s.label for s in everything]
            remember_run(store.root, experiment.name, experiment.overrides, labels)
    return list(outcomes.values())


def _reused(
    everything: list[Stage], targets: list[Stage], todo: list[Stage], store: Store
) -> dict[str, StageOutcome]:
    """Pull and verify what will be read: the inputs of the stages to run, and the targets that are done."""
    labels, read = {s.label for s in todo}, plan.read_by(targets, todo)
    outcomes = {}
    for stage in everything:
        place = None if stage.label in labels else store.where(stage)
        if place == "remote" and stage.label in read:
            store.fetch(stage)
        if place == "local" and (stage.label in read or not todo):
            store.verify(stage)
        pulled = place == "remote" and stage.label in read
        status = "pulled" if pulled else "reused" if place == "local" else "not needed"
        outcomes[stage.label] = StageOutcome(stage, status)
    return outcomes


def _track_and_run(
    experiment: Experiment,
    todo: list[Stage],
    outcomes: dict[str, StageOutcome],
    store: Store,
    parent: str | None,
    swept: dict[str, str] | None,
    failed: dict[str, str] | None,
) -> None:
    from dtx.tracking import open_tracker

    with open_tracker(experiment, parent, swept) as tracker:
        _run_all(todo, outcomes, store, tracker, experiment, failed or {})
        tracker.finish(list(outcomes.values()))
    if any(o.status == "failed" for o in outcomes.values()):
        raise StagesFailed(list(outcomes.values()))
    tracker.raise_if_broken(store.root)


def _make_up_for_lost_tracking(
    experiment: Experiment,
    everything: list[Stage],
    outcomes: dict[str, StageOutcome],
    store: Store,
) -> None:
    """Show in MLflow what it lacks, when no stage is left to run."""
    from dtx.tracking import Job, is_behind, only_told

    with only_told():
        if is_behind(experiment.tracking, everything, Job(Names(experiment)).command):
            _track_and_run(experiment, [], outcomes, store, None, None, None)


def make_way(todo: list[Stage], store: Store, again: dict[str, list[str]]) -> None:
    """Set aside the artefacts that are to be made again.

    Args:
        todo: The stages to run.
        store: Where they are.
        again: Stages whose code changed: label to changed files.
    """
    for stage in todo:
        place = store.where(stage)
        if place:
            store.only_here.add(stage.label)  # the remote store has what the old code made
        if place == "local":
            files = ", ".join(again.get(stage.label, ())) or "of an input"
            console.print(f"{stage.label}: code changed since ({files}); it is made again")
            with store.lock(stage):
                store.set_aside(store.folder(stage))


def _run_all(
    todo: list[Stage],
    outcomes: dict[str, StageOutcome],
    store: Store,
    tracker: Tracker,
    experiment: Experiment,
    failed: dict[str, str],
) -> None:
    on_error, names = experiment.on_error, titles(experiment.targets)
    lost: dict[str, Stage] = {}  # failed or skipped: what reads them is skipped
    stop = False
    for stage in todo:
        if stage.label in failed:
            outcomes[stage.label] = StageOutcome(stage, "failed", error=failed[stage.label])
            lost[stage.label] = stage
            continue
        missing = [s.label for s in stage.inputs().values() if s.label in lost]
        if stop or missing:
            why = f"needs {missing[0]}" if missing else "after a failure (on_error=stop)"
            outcomes[stage.label] = StageOutcome(stage, "skipped", error=why)
            lost[stage.label] = stage
            continue
        try:
            with disk_errors(store.root):
                outcomes[stage.label] = _run_stage(stage, names[stage.label], store, tracker)
        except UserError as error:
            outcomes[stage.label] = StageOutcome(stage, "failed", error=str(error))
            stop = on_error is OnError.STOP or isinstance(error, DiskError)
        except Exception as error:  # a defect in one stage must not cost the others
            console.print(traceback.format_exc(), markup=False, soft_wrap=True)
            what = f"{type(error).__name__}: {error}".strip(": ").splitlines()[0]
            outcomes[stage.label] = StageOutcome(stage, "failed", error=what, defect=True)
            stop = on_error is OnError.STOP
        if outcomes[stage.label].status == "failed":
            lost[stage.label] = stage


def _run_stage(stage: Stage, title: str, store: Store, tracker: Tracker) -> StageOutcome:
    for parent in stage.inputs().values():
        store.fetch(parent)
    with store.work(stage) as work, contextlib.ExitStack() as ending:
        if work is None:
            return StageOutcome(stage, "reused")
        going_on = store.begun(stage)  # asked after the wait: another process may have begun it
        console.print(f"[bold]{title}[/] ({stage.label}) {'goes on' if going_on else 'starts'}")
        wall, cpu = time.time(), cpu_seconds()
        with tracker.stage(stage, work) as shown, report_to(work, title):
            stage.run(work)
            seconds, used = time.time() - wall, cpu_seconds() - cpu
            record = {
                **provenance(stage),
                **tracker.names.record(stage),
                "overrides": list(tracker.overrides),
                "seconds": round(seconds + store.earlier_seconds(stage), 3),
                "interruptions": store.interruptions(stage),
                "cpu_seconds": round(used, 3),
                "peak_memory_mb": peak_memory_mb(),
                "estimate": _estimate(stage),
                "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
                "mlflow": shown.reference,
            }
            # A signal here would leave the artefact unlogged.
            ending.enter_context(defer_signals())
            final = store.commit(stage, work, record)
            summary = stage.summary()
            shown.committed(final, record, summary)
        store.amend(stage, {"summary": summary, "mlflow": shown.reference})
    store.push_or_warn(stage)
    console.print(
        f"[bold]{title}[/] ({stage.label}) done in {duration(seconds)}: {escape(summary)}",
        soft_wrap=True,
    )
    return StageOutcome(stage, "ran", seconds, used)


def _estimate(stage: Stage) -> dict[str, float]:
    """What was expected, to be held against what was needed; the next plan's times follow from it."""
    needs = stage.resources()
    return {
        "seconds": round(needs.seconds, 3),
        "memory_mb": round(needs.all_memory / 1e6),
        "disk_mb": round(needs.all_disk / 1e6, 3),
    }


@contextlib.contextmanager
def disk_errors(place: Path) -> Iterator[None]:
    """Turn the errors of a full or read-only disk into one line with the place and the remedy."""
    try:
        yield
    except (UserError, Interrupted):
        raise
    except Exception as error:
        raise_signal_before(error)
        number = error.errno if isinstance(error, OSError) else None
        # Libraries wrap the system's error in their own (torch: RuntimeError, safetensors: SafetensorError).
        full = number is None and free_disk(place) < 1 << 20
        if number not in _DISK_ERRORS and not full:
            raise
        where = (error.filename if isinstance(error, OSError) else None) or place
        reason = os.strerror(errno.ENOSPC if full or number is None else number)
        raise DiskError(
            f"cannot write {where}: {reason}; make room there or choose another place with "
            "store.path=FOLDER, then give the same command again: finished stages are kept, the "
            "interrupted one goes on"
        ) from error
