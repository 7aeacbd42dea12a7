"""Make up for lost tracking: mirror what MLflow lacks, and end what killed processes left RUNNING."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.markup import escape

from dtx.analysis.core.result import Result
from dtx.config.compose import TrackingConfig
from dtx.errors import UserError
from dtx.progress import console
from dtx.report import RESULT, read_metrics
from dtx.running.processes import killed_before
from dtx.stage import Stage
from dtx.store import locks
from dtx.store.aside import LOCKS
from dtx.store.inventory import Artefact, artefact
from dtx.store.label import Label, is_label
from dtx.store.store import current
from dtx.text import discreet
from dtx.tracking.lacking import lacking, run_of
from dtx.tracking.server import Server
from dtx.tracking.stage_run import Results, curve_points, log_origin, start_run, unsent
from dtx.tracking.uri import tracking_uri


def artefacts_of(stages: Sequence[Stage]) -> list[Artefact]:
    """The artefacts of those stages that are in this store."""
    store = current()
    return [artefact(store.folder(s)) for s in stages if store.where(s) == "local"]


def is_behind(config: TrackingConfig, stages: Sequence[Stage]) -> bool:
    """Whether MLflow lacks something of these stages, or runs that a killed process did not end.

    Raises:
        UserError: MLflow cannot be asked.
    """
    if not config.enabled:
        return False
    if killed_before(current().root):
        return True
    return bool(lacking(tracking_uri(config.uri), artefacts_of(stages)).artefacts)


@contextmanager
def only_told() -> Iterator[None]:
    """Tell a UserError of MLflow, and go on: for a command whose results are all in the store."""
    try:
        yield
    except UserError as error:
        console.print(f"[yellow]{escape(str(error))}[/]", soft_wrap=True)


def make_up(server: Server, artefacts: Sequence[Artefact], parent: str | None = None) -> list[str]:
    """End the runs that killed processes left, then mirror the artefacts that MLflow lacks.

    Args:
        server: Of MLflow; once a call fails, the rest is left to the next command.
        artefacts: Inputs first.
        parent: Run that new runs go under.

    Returns:
        Labels of what was mirrored.
    """
    server.safely(lambda: reconcile(server))
    gap = server.safely(lambda: lacking(server.uri, artefacts))
    wanted = {a.label for a in gap.artefacts} if gap else set()
    missing = [a for a in artefacts if a.label in wanted]
    done = [a.label for a in missing if server.safely(lambda a=a: mirror(server, a, parent))]
    if done:
        count = "1 finished stage" if len(done) == 1 else f"{len(done)} finished stages"
        console.print(f"mirrored {count} that MLflow lacked")
    return done


def reconcile(server: Server) -> None:
    """End what killed processes left RUNNING: FINISHED with what the store has, or KILLED."""
    store = current()
    killed = killed_before(store.root)
    for run in server.orphans():
        label = f"{run.data.tags.get('dtx.stage')}-{run.data.tags.get('dtx.key')}"
        made = artefact(store.root / label) if is_label(label) else None
        own = made is not None and run_of(made) == run.info.run_id
        if not (own and (mirror(server, made) or store.locked(label))):
            server.client.set_terminated(run.info.run_id, "KILLED")
    for mark in killed:
        mark.unlink(missing_ok=True)


def mirror(server: Server, what: Artefact, parent: str | None = None) -> bool:
    """Show an artefact in MLflow, or complete its run, unless another process does it.

    The record names the new run before anything is logged to it: after a kill, the next command goes on with
    that run.

    Returns:
        Whether the artefact is now shown.
    """
    with locks.free(current().root / LOCKS, what.label) as mine:
        if not mine:
            return False
        what = artefact(what.folder)  # another process may have mirrored it since
        gap = lacking(server.uri, [what], mine=True)
        if not gap.artefacts:
            return False
        try:
            _send(server, what, parent, begun=bool(gap.incomplete))
        except (UserError, ValueError, KeyError, TypeError, AttributeError) as error:
            # One artefact that cannot be read must not cost the others their tracking.
            why = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
            line = f"[yellow]{what.label} is not mirrored to MLflow:[/] {escape(why)}"
            console.print(line, soft_wrap=True)
            return False
        return True


def _send(server: Server, what: Artefact, parent: str | None, *, begun: bool) -> None:
    store, label, name = current(), Label(what.label), what.label.rpartition("-")
    record = {"stage": name[0], "key": name[2], "config": {}, "inputs": {}, **what.record}
    store.verify(label)
    what = Artefact(what.folder, record, what.size)
    results, points = Results.read(what, _summary(what)), curve_points(what.folder)
    run = server.client.get_run(run_of(what)) if begun else None
    if (
        run is None or run.info.experiment_id != server.experiment_id
    ):  # another's files may be out of reach
        start = int((what.finished - record.get("seconds", 0.0)) * 1000)
        run = server.client.get_run(start_run(server, record, parent, start))
    run_id = run.info.run_id
    store.amend(label, {"summary": results.summary, "mlflow": _reference(server, run_id)})
    log_origin(server, run_id, record, {}, run.data.params)
    model = results.log(server, run_id, unsent(server, run, points), run)
    store.amend(label, {"mlflow": _reference(server, run_id, model)})
    server.client.set_terminated(run_id, "FINISHED", int(what.finished * 1000))


def _reference(server: Server, run_id: str, model: str | None = None) -> dict[str, str]:
    reference = {"uri": discreet(server.uri), "run_id": run_id}
    return reference | ({"model_id": model} if model else {})


def _summary(what: Artefact) -> str:
    """The result of an artefact in one sentence, from its files: the stage itself is not at hand."""
    if summary := what.record.get("summary"):
        return str(summary)
    if (what.folder / RESULT).is_file():
        return Result.read(what.folder).summary
    numbers = {k: v for k, v in read_metrics(what.folder).items() if v is not None}
    return ", ".join(f"{k} {v:.3g}" for k, v in list(numbers.items())[:4])
