"""Names by which readers know the parts of an experiment: roles of stages, parameters, titles of jobs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from dtx.config.compose import GROUPS, Experiment
from dtx.config.parameters import Parameters
from dtx.running.roles import roles
from dtx.stage import Stage

_OF_THE_COMMAND = ("store", "tracking", "on_error", "on_drift", "resources", "hydra", "note")
"""Settings that say how a command works, not what is computed."""
_LONGEST = 200  # characters of a title


class Names:
    """How the parts of an experiment are named, wherever they are shown.

    Args:
        experiment: With its targets.
    """

    def __init__(self, experiment: Experiment):
        self.experiment = experiment

    @cached_property
    def roles(self) -> dict[str, str]:
        """The role of each stage by label: ``behaviour clone``."""
        return roles(self.experiment.targets)

    @cached_property
    def parameters(self) -> dict[str, str]:
        """Every value that the targets depend on, by its name in the config: ``dt.model.n_layers``."""
        if len(self._places) < len(self.roles):  # stages that no config describes
            return self._without_the_commands(self._parameters.values)
        groups = [name for name in self.experiment.raw if name not in GROUPS]
        below = self._parameters.below(*groups, *self._targets)
        return self._without_the_commands(below)

    @property
    def title(self) -> str:
        """The experiment's name, and what the user set: ``memory_dt dt=small seed=3``."""
        given = (o.partition("=") for o in self.experiment.overrides)
        values = {name: value for name, _, value in given if not _is_of_the_command(name)}
        return title(values, self.experiment.name)

    def record(self, stage: Stage) -> dict[str, Any]:
        """What a stage's record says of them: ``role``, and ``parameters`` of it and of what it is made from.

        Without parameters for a stage that no config describes.
        """
        role = {"role": self.roles[stage.label]} if stage.label in self.roles else {}
        place = self._places.get(stage.label)
        return {**role, **({"parameters": self._parameters.below(place)} if place else {})}

    @cached_property
    def _parameters(self) -> Parameters:
        return Parameters(self.experiment.raw)

    @cached_property
    def _targets(self) -> dict[str, Stage]:
        """The targets by their place in the config."""
        name, targets = self.experiment.raw.get("target"), self.experiment.targets
        return {f"{name}.{k}" if name == "analysis" else k: stage for k, stage in targets.items()}

    @cached_property
    def _places(self) -> dict[str, str]:
        return self._parameters.places(self._targets)

    def _without_the_commands(self, values: Mapping[str, str]) -> dict[str, str]:
        return {k: v for k, v in values.items() if k.split(".")[0] not in _OF_THE_COMMAND}


def _is_of_the_command(override: str) -> bool:
    first = override.lstrip("+~").replace("/", ".").split(".")[0]
    return first in (*_OF_THE_COMMAND, "name", "experiment")


def title(values: Mapping[str, str], begin: str = "") -> str:
    """Fields and their values in short: ``dt=small steps=60 seed=0``.

    A field is named by its last word, or by more of them where two fields would have the same name.

    Args:
        values: By the full name of the field.
        begin: What stands before them.
    """
    short = short_names(list(values))
    words = [f"{short[name]}={value.strip(chr(39) + chr(34))}" for name, value in values.items()]
    text = " ".join([begin, *words]).strip()
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def short_names(fields: list[str]) -> dict[str, str]:
    """The shortest endings that tell fields apart: ``dt.seed`` is ``seed`` unless ``agent.seed`` is there."""
    parts = {name: name.lstrip("+~").split(".") for name in fields}
    length = dict.fromkeys(fields, 1)
    while True:
        short = {name: ".".join(words[-length[name] :]) for name, words in parts.items()}
        count = Counter(short.values())
        longer = [n for n in fields if count[short[n]] > 1 and length[n] < len(parts[n])]
        if not longer:
            return short
        for name in longer:
            length[name] += 1
