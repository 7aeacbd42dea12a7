"""What ``dtx.load`` returns: handles on artefacts, one class for each kind of product."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dtx.errors import UserError
from dtx.report import CURVES, Tables, read_metrics

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from dtx.agent.agent import Agent
    from dtx.analysis.core.result import Result
    from dtx.dataset.episodes import Episodes
    from dtx.env.environment import Environment
    from dtx.exchange.origin import Origin
    from dtx.pairs.pair_set import PairSet


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
    def headline(self) -> dict[str, float | None]:
        """Its numbers, as ``group/name``."""
        return read_metrics(self.folder)

    @property
    def tables(self) -> Tables:
        """pandas frames by name; one observation a row."""
        return Tables(self.folder)

    @property
    def figures(self) -> dict[str, Path]:
        """Files by name: ``calibration.png``."""
        return {p.name: p for p in sorted((self.folder / "figures").glob("*")) if p.is_file()}

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

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.label}, {self.folder})"


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
    def columns(self) -> dict[str, np.ndarray]:
        """The columns by name, with ``returns`` and ``reward_to_go``; see ``Episodes`` for their shapes."""
        names = [field.name for field in dataclasses.fields(self.episodes)]
        return {n: getattr(self.episodes, n) for n in [*names, "returns", "reward_to_go"]}


class LoadedPairs(Loaded):
    """Declared counterfactual pairs."""

    @cached_property
    def pairs(self) -> PairSet:
        """Ready for a model: ``pairs.batches(model)``."""
        from dtx.pairs.pair_set import PairSet

        return PairSet.read(self.folder)


class LoadedAnalysis(Loaded):
    """An analysis, or a stage of another kind that makes no model, agent, demonstrations or pairs."""

    @cached_property
    def result(self) -> Result:
        """The analysis' result: ``result.established``, ``result.reasons()``, ``result.claims``, ...

        Raises:
            UserError: The stage is no analysis.
        """
        from dtx.exchange.recorded_result import recorded_result

        result = recorded_result(self.folder, self.origin.record)
        if result is None:
            raise UserError(f"{self.label}: is no analysis; .headline has its numbers")
        return result
