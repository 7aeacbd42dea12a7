"""A scene that was understood, with its models: one column of the page each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dtx.app.models import TEACHER, Chosen
from dtx.app.places import Place
from dtx.app.play import Played
from dtx.app.prompt import Prompts, prompts
from dtx.app.scene import Message, Scene
from dtx.app.training_data import TrainingData
from dtx.dt.load import misfit


@dataclass(frozen=True)
class Column:
    """A model of a scene, and why it cannot be shown there, if so."""

    chosen: Chosen
    data: TrainingData | None
    problem: str

    @property
    def is_teacher(self) -> bool:
        """Whether it is an agent that can be shown here."""
        return self.chosen.entry.kind == TEACHER and not self.problem

    def about(self) -> dict[str, Any]:
        """What the page is told of it."""
        returns = None if self.data is None else self.data.returns.about()
        return {
            **self.chosen.entry.about(),
            "id": self.chosen.id,
            "step": self.chosen.step,
            "reward_to_go": returns,
            "problem": self.problem or None,
        }


@dataclass(frozen=True)
class Asked:
    """A scene that was understood and played."""

    scene: Scene
    messages: list[Message]
    subjects: list[Column]
    played: Played
    contrast: tuple[int, int]


@dataclass(frozen=True)
class AskedText:
    """A scene of models that read text.

    Attributes:
        prompts: Of each model that can be shown, by its name in the scene.
    """

    scene: Scene
    messages: list[Message]
    subjects: list[Column]
    prompts: Mapping[str, Prompts]

    def shown(self) -> dict[str, Any]:
        """The ``play`` part of an answer: the text as the first model splits it."""
        return self.prompts[self.subjects[0].chosen.id].shown()


def asked_text(scene: Scene, chosen: Sequence[Chosen], told: list[Message]) -> AskedText:
    """A scene whose first model reads text."""
    columns: list[Column] = []
    split: dict[str, Prompts] = {}
    for one in chosen:
        problem, vocabulary = "", one.entry.vocabulary
        if vocabulary is None:
            problem = "acts in a world; the first model reads text"
        else:
            own = split[one.id] = prompts(scene, vocabulary, [] if columns else told)
            first = split[chosen[0].id]
            if first.names(first.original) != own.names(own.original):
                problem = "splits this text into other tokens than the first model"
        columns.append(Column(one, None, problem))
    scene = scene.replace(models=tuple(one.id for one in chosen), cursor=split[chosen[0].id].cursor)
    return AskedText(scene, told, columns, split)


def problem_in(chosen: Chosen, where: Place) -> str:
    """Why a model cannot be shown in a place; empty if it can."""
    entry = chosen.entry
    if entry.problem and entry.place is not None:
        return entry.problem
    if entry.vocabulary is not None:
        return "reads text; the first model acts in a world"
    if entry.shape is not None:
        return misfit(entry.shape, where.environment, plays=False) or ""
    if entry.kind == TEACHER and entry.place is not None:
        own = entry.place.environment.n_actions
        if own != where.environment.n_actions:
            return f"has {own} actions, but {where.id} has {where.environment.n_actions}"
    return ""
