"""Which finished artefacts MLflow does not show, or not completely. The store is the truth."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dtx.errors import UserError
from dtx.store.inventory import Artefact
from dtx.store.label import is_label
from dtx.store.store import current
from dtx.tracking import database as sqlite
from dtx.tracking.connection import client_of, short
from dtx.tracking.database import WAYS_ON, KnownRun
from dtx.tracking.uri import database_of

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.store.entities import PagedList

_AT_ONCE = 100  # values in a query to a server
_PAGE = 1000  # runs in an answer of a server


@dataclass
class Gap:
    """What MLflow lacks of some artefacts.

    Attributes:
        missing: Without a run.
        incomplete: With a run that did not end as it should; the artefact's record names it.
        deleted: Labels of those whose run somebody deleted in MLflow: they are not shown again.
    """

    missing: list[Artefact] = field(default_factory=list)
    incomplete: list[Artefact] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)

    @property
    def artefacts(self) -> list[Artefact]:
        """All that are to be mirrored."""
        return [*self.missing, *self.incomplete]


def lacking(uri: str, artefacts: Sequence[Artefact], *, mine: bool = False) -> Gap:
    """Ask MLflow for the runs of artefacts: one query to a database, some more to a server.

    A run in any experiment counts. Artefacts that a process works on now are left out.

    Args:
        uri: Of MLflow.
        artefacts: Of the store in use.
        mine: The caller holds their locks, and is that process.

    Raises:
        UserError: MLflow cannot be asked.
    """
    gap, store = Gap(), current()
    artefacts = [a for a in artefacts if a.record and is_label(a.label)]
    if not artefacts:
        return gap
    known = _known_runs(
        uri, [i for a in artefacts if (i := run_of(a))], [_key(a) for a in artefacts]
    )
    by_id = {run.run_id: run for run in known}
    finished: dict[str, list[KnownRun]] = {}
    for run in known:
        if run.status == "FINISHED":
            finished.setdefault(run.key, []).append(run)
    for artefact in artefacts:
        own, others = by_id.get(run_of(artefact)), finished.get(_key(artefact), [])
        own = own if own and own.key == _key(artefact) else None  # a record may name any run
        begun = own is not None and not own.deleted and own.status != "FINISHED"
        if not begun and any(not run.deleted for run in others):
            continue
        if not begun and (own or others):
            gap.deleted.append(artefact.label)
        elif mine or not store.locked(artefact.label):
            (gap.incomplete if begun else gap.missing).append(artefact)
    return gap


def run_of(artefact: Artefact) -> str:
    """The run that the artefact's record names, in whichever database; empty if none."""
    reference = artefact.record.get("mlflow")
    run_id = reference.get("run_id") if isinstance(reference, dict) else None
    return run_id if isinstance(run_id, str) and run_id.isalnum() else ""


def _key(artefact: Artefact) -> str:
    return artefact.label.rpartition("-")[2]


def _known_runs(uri: str, run_ids: Sequence[str], keys: Sequence[str]) -> list[KnownRun]:
    if (database := database_of(uri)) is None:
        try:
            return _served_runs(client_of(uri), run_ids, keys)
        except Exception as error:  # of the server or the network
            raise unreachable(uri, error) from error
    return [] if sqlite.unmade(database) else sqlite.known_runs(database, run_ids, keys)


def unreachable(uri: str, error: Exception) -> UserError:
    """What to tell of a server that cannot be asked."""
    return UserError(f"cannot reach MLflow at {uri}: {short(error)}; start it, {WAYS_ON}")


def _served_runs(
    client: MlflowClient, run_ids: Sequence[str], keys: Sequence[str]
) -> list[KnownRun]:
    """What :func:`dtx.tracking.database.known_runs` gives, of any server; by key what is not found by id."""
    from mlflow.entities import ViewType

    experiments = [
        experiment.experiment_id
        for experiment in all_of(
            lambda token: client.search_experiments(
                ViewType.ALL, max_results=_PAGE, page_token=token
            )
        )
    ]
    found: dict[str, KnownRun] = {}

    def search(query: str) -> None:
        for run in all_of(
            lambda token: client.search_runs(
                experiments, query, ViewType.ALL, _PAGE, page_token=token
            )
        ):
            info, key = run.info, run.data.tags.get("dtx.key", "")
            deleted = info.lifecycle_stage == "deleted"
            found[info.run_id] = KnownRun(info.run_id, key, info.status, deleted)

    if experiments:
        for i in range(0, len(run_ids), _AT_ONCE):
            named = ", ".join(f"'{run_id}'" for run_id in run_ids[i : i + _AT_ONCE])
            search(f"attributes.run_id IN ({named})")
        shown = {run.key for run in found.values() if run.status == "FINISHED"}
        for key in dict.fromkeys(keys):  # of a tag, MLflow finds only one value at once
            if key not in shown:
                search(f"tags.`dtx.key` = '{key}'")
    return list(found.values())


def all_of(search: Callable[[str | None], PagedList]) -> Iterator[Any]:
    """The content of all pages of a search."""
    token = None
    while True:
        page = search(token)
        yield from page
        if not (token := page.token):
            return
