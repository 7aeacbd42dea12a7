"""A scene's pair: its runs up to the cursor, with the controls that every pair has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dtx.app.places import Place, world_at_start
from dtx.errors import UserError
from dtx.pairs.edits import Impossible
from dtx.pairs.runs import Refused
from dtx.pairs.single import OnePair, declaration
from dtx.pairs.spec import PairsSpec

if TYPE_CHECKING:
    from dtx.app.play import Played
    from dtx.app.training_data import TrainingData

NAME = "scene"
"""Name of the edit."""


def declared_pair(played: Played, contrast: tuple[int, int]) -> PairsSpec:
    """What a pairs file would declare of a scene; its pair ends at the cursor.

    Raises:
        UserError: There is no edit up to the cursor, or one is wrong whatever the world.
    """
    scene, place, cursor = played.scene, played.place, played.cursor
    edits = [edit for edit in scene.edits if not _later(edit, cursor)]
    if not edits:
        raise UserError("edits: nothing is edited up to the state that is looked at")
    assert scene.reward_to_go is not None
    return declaration(
        place.environment,
        scene.world,
        played.original.actions[: cursor - 1],
        scene.reward_to_go,
        edits,
        contrast,
        tokens=scene.tokens,
        name=NAME,
        min_ld_gap=place.declared.gap,
    )


def pair_of(played: Played, contrast: tuple[int, int], data: TrainingData | None) -> OnePair:
    """The pair of a scene, played.

    Raises:
        UserError: There is none; says why.
    """
    place: Place = played.place
    try:
        return OnePair(
            declared_pair(played, contrast),
            worlds=lambda name: world_at_start(place, name),
            known=None if data is None else data.observations,
        )
    except (Refused, Impossible) as reason:
        raise UserError(str(reason)) from None


def _later(edit: Mapping[str, Any], cursor: int) -> bool:
    """Whether an edit is of a state or action behind the cursor, where the pair has ended."""
    places = [
        (edit.get("frame"), cursor),
        (edit.get("index"), cursor),
        (edit.get("step"), cursor - 1),
    ]
    return any(isinstance(at, int) and at >= end for at, end in places)
