"""What ``dtx.load`` returns: handles on artefacts, one class for each kind of product."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dtx.errors import UnknownName, UserError
from dtx.report import CURVES, Tables, read_metrics
from dtx.text import suggest

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from dtx.activations.stored import Activations
    from dtx.agent.agent import Agent
    from dtx.analysis.core.result import Result
    from dtx.dataset.episodes import Episodes
    from dtx.dataset.facts import Facts
    from dtx.dictionary.trained import Dictionaries
    from dtx.env.environment import Environment
    from dtx.exchange.origin import Origin
    from dtx.pairs.pair_set import PairSet


class ByName(dict[str, Any]):
    """Things by name; a wrong name is told with the nearest right one.

    Args:
        kind: What they are, in a word.
        things: By name.
    """

    def __init__(self, kind: str, things: Mapping[str, Any]):
        super().__init__(things)
        self._kind = kind

    def __missing__(self, name: str) -> Any:
        raise UnknownName(f"no {self._kind} {name!r}{suggest(name, list(self))}")


class Loaded:
    """Handle on an artefact: its numbers, tables, figures and curves.

    Attributes:
        origin: Where it stands, and its record.
    """

    def __init__(self, origin: Origin):
        self.origin = origin

    @property
    def folder(self) -> Path:
        """Of the artefact."""
        return self.origin.folder

    @property
    def label(self) -> str:
        """Stage and key."""
        record = self.origin.record
        return f"{record['stage']}-{record['key']}" if "key" in record else self.folder.name

    @property
    def config(self) -> Mapping[str, Any]:
        """The stage's settings as plain values, inputs as their labels."""
        return self.origin.record.get("config", {})

    @property
    def headline(self) -> Mapping[str, float | None]:
        """Its numbers, as ``group/name``."""
        return ByName("number", read_metrics(self.folder))

    @property
    def tables(self) -> Tables:
        """pandas frames by name; one observation a row."""
        return Tables(self.folder)

    @property
    def figures(self) -> Mapping[str, Path]:
        """Files by name: ``calibration.png``."""
        files = sorted((self.folder / "figures").glob("*"))
        return ByName("figure", {path.name: path for path in files if path.is_file()})

    @property
    def curves(self) -> pd.DataFrame:
        """Training curves, one row a logged step."""
        import pandas as pd

        from dtx.report import read_curves

        return pd.DataFrame(read_curves(self.folder, CURVES))

    @cached_property
    def env(self) -> Environment | None:
        """The environment of the task; None if no record names it."""
        from dtx.exchange.environments import of_artefact

        return of_artefact(self.origin, self.label)

    def _environment(self, env: Environment | str | None) -> Environment:
        """The environment to use: ``env`` itself, the one of a config by name, or the recorded one."""
        if isinstance(env, str):
            from dtx.exchange.environments import of_config

            return of_config(env, self.origin.config_dir)
        env = self.env if env is None else env
        if env is None:
            raise UserError(
                f"{self.label}: no record names its environment; name one: env='memory', "
                "env='memory env.size=9'"
            )
        return env

    @cached_property
    def recorded(self) -> Result | None:
        """The result of an analysis; None for another kind of stage."""
        from dtx.exchange.recorded_result import recorded_result

        return recorded_result(self.folder, self.origin.record)

    @property
    def summary(self) -> str:
        """One sentence on what came out."""
        if self.recorded is not None:
            return self.recorded.summary
        numbers = {k: v for k, v in self.headline.items() if v is not None}
        return ", ".join(f"{k} {v:.3g}" for k, v in list(numbers.items())[:4])

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.label}, {self.folder})"

    def _repr_html_(self) -> str:
        from dtx.exchange.html import of_artefact

        return of_artefact(self.label, self.folder, self.recorded, self.headline, self.figures)


class LoadedAgent(Loaded):
    """A trained or imported agent."""

    @cached_property
    def agent(self) -> Agent:
        """In evaluation mode; ``agent.step(observations, memory)`` gives logits, values, memory."""
        from dtx.agent.agent import AgentStage
        from dtx.agent.agent_folder import load_agent

        # Only who wrote agent.unsafe_pickle=true has a policy unpickled.
        stage = self.origin.stage
        return load_agent(self.folder, isinstance(stage, AgentStage) and stage.may_unpickle)


class LoadedDataset(Loaded):
    """Demonstrations."""

    @cached_property
    def episodes(self) -> Episodes:
        """All columns, as numpy views of the files."""
        from dtx.dataset.episodes import Episodes

        return Episodes.read(self.folder)

    @property
    def columns(self) -> Mapping[str, np.ndarray]:
        """The columns by name, with ``returns`` and ``reward_to_go``; see ``Episodes`` for their shapes."""
        names = [field.name for field in dataclasses.fields(self.episodes)]
        every = {n: getattr(self.episodes, n) for n in (*names, "returns", "reward_to_go")}
        return ByName("column", {name: c for name, c in every.items() if c is not None})

    def facts(self, derived: Mapping[str, str] | None = None) -> Facts:
        """Facts of the world at every step, and whether the agent was shown them.

        Args:
            derived: Expressions over facts, by name: ``{"near_key": "abs(x - key_x) <= 1"}``.

        Raises:
            UserError: No facts were recorded and they cannot be found, or an expression is wrong.
        """
        from dtx.dataset.facts import Facts

        return Facts.read(self.folder, self.env, derived)


class LoadedPairs(Loaded):
    """Declared counterfactual pairs."""

    @cached_property
    def pairs(self) -> PairSet:
        """Ready for a model: ``pairs.batches(model)``."""
        from dtx.pairs.pair_set import PairSet

        return PairSet.read(self.folder)


class LoadedActivations(Loaded):
    """A model's activations on the windows of demonstrations."""

    @cached_property
    def activations(self) -> Activations:
        """Splits and batches: ``activations.batches(hook, 1024, rows=activations.rows("episode"))``."""
        from dtx.activations.stored import Activations

        return Activations(self.folder)

    @property
    def arrays(self) -> Mapping[str, np.ndarray]:
        """(rows, width) by hook, mapped from the files."""
        stored = self.activations
        return ByName("activations", {hook: stored.array(hook) for hook in stored.hooks})

    @property
    def tokens(self) -> pd.DataFrame:
        """One line a row of the arrays: episode, step, kind, view, prefix, count, parts of splits."""
        return self.activations.tokens


class LoadedDictionaries(Loaded):
    """Sparse dictionaries of a model's stored activations."""

    @cached_property
    def dictionaries(self) -> Dictionaries:
        """By name: ``dictionaries["blocks.1.hook_resid_post-1024-16-0"].spliced(model)``."""
        from dtx.dictionary.trained import Dictionaries

        return Dictionaries(self.folder)

    @property
    def frame(self) -> pd.DataFrame:
        """One line a dictionary: its settings, and what it reaches on held-out rows."""
        return self.dictionaries.frame


class LoadedAnalysis(Loaded):
    """An analysis, or a stage of a kind that has no handle of its own."""

    @property
    def result(self) -> Result:
        """The analysis' result: ``result.established``, ``result.reasons()``, ``result.claims``, ...

        Raises:
            UserError: The stage is no analysis.
        """
        if self.recorded is None:
            raise UserError(f"{self.label}: is no analysis; .headline has its numbers")
        return self.recorded
