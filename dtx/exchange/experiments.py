"""``dtx.compose`` and ``dtx.run``: experiments from Python, with the words of the command line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dtx.config.compose import Experiment, experiment
from dtx.config.compose import compose as composed
from dtx.errors import UnknownName
from dtx.exchange.handles import Loaded
from dtx.exchange.loading import as_overrides, folder_of, of_stage
from dtx.running.outcome import StageOutcome
from dtx.running.runner import run as run_stages
from dtx.store.store import current
from dtx.text import suggest


class Finished(Mapping[str, Loaded]):
    """The results of an experiment by the name of their target.

    Args:
        what: The experiment.
        outcomes: Of all its stages.
        handles: On the targets.
    """

    def __init__(
        self, what: Experiment, outcomes: Sequence[StageOutcome], handles: Mapping[str, Loaded]
    ):
        self.experiment, self.outcomes, self._handles = what, outcomes, handles

    def __getitem__(self, name: str) -> Loaded:
        try:
            return self._handles[name]
        except KeyError:
            raise UnknownName(f"no target {name!r}{suggest(name, list(self))}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._handles)

    def __len__(self) -> int:
        return len(self._handles)

    def __repr__(self) -> str:
        lines = [f"{name}: {handle.summary}" for name, handle in self.items()]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        from dtx.exchange.html import of_run
        from dtx.running.roles import roles

        names = roles(self.experiment.targets)
        summaries = {handle.label: handle.summary for handle in self.values()}
        labels = [(outcome.stage.label, outcome.status) for outcome in self.outcomes]
        return of_run([(names[label], s, summaries.get(label, "")) for label, s in labels])


def compose(*overrides: str, config_dir: Path | str | None = None, **fields: Any) -> Experiment:
    """See :func:`dtx.compose`."""
    words = [*overrides, *as_overrides(fields)]
    return experiment(composed(words, folder_of(config_dir)), words)


def run(*overrides: str, config_dir: Path | str | None = None, **fields: Any) -> Finished:
    """See :func:`dtx.run`."""
    what = compose(*overrides, config_dir=config_dir, **fields)
    outcomes = run_stages(what)
    store = current()
    handles = {
        name: of_stage(stage, store, folder_of(config_dir)) for name, stage in what.targets.items()
    }
    return Finished(what, outcomes, handles)
