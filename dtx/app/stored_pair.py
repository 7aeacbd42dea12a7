"""A pair of a stored stage as a scene: ``declared-1a2b#17``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from dtx.app.places import of_environment
from dtx.app.scene import LETTERS, Scene
from dtx.env.actions import ACTIONS
from dtx.env.vector import seeds
from dtx.errors import UserError
from dtx.exchange.environments import of_artefact
from dtx.exchange.lookup import lineage, one_of
from dtx.exchange.origin import Origin
from dtx.pairs.pair_set import PairSet
from dtx.store.inventory import artefact
from dtx.store.label import Label

if TYPE_CHECKING:
    from dtx.app.models import Catalogue

_SAMPLED = re.compile(r"world (\d+)", re.ASCII)
_NAME = re.compile(r"(?P<label>[^#]+)#(?P<pair>\d{1,9})", re.ASCII)


def scene_of(name: str, catalogue: Catalogue) -> Scene:
    """The scene of a stored pair, for the newest model.

    Args:
        name: A label's or key's beginning, ``#``, and the pair's number in ``tables/pairs``.
        catalogue: Has the store.

    Raises:
        UserError: There is no such pair, or it is a control.
    """
    found = _NAME.fullmatch(name)
    if not found or catalogue.store is None:
        raise UserError(f"--pair: {name!r} is no pair; declared-1a2b#17 is one")
    store, number = catalogue.store, int(found["pair"])
    label = one_of(store, found["label"], "pairs")
    pairs = PairSet.read(store.artefact(Label(label)))
    rows = pairs.table[pairs.table["pair"] == number]
    if rows.empty:
        raise UserError(f"--pair: {label} has the pairs 0 to {pairs.table['pair'].max()}")
    (row,) = rows.itertuples()
    if row.kind != "edit":
        own = f"; it is a control of #{row.of}" if row.of >= 0 else ""
        raise UserError(f"--pair: #{number} of {label} is no edit but {row.kind}{own}")
    record = artefact(store.root / label).record
    config = record["config"]
    if config["replay"] != "same_actions":
        raise UserError(f"--pair: {label} lets its policy act anew; a scene has the same actions")
    origin = Origin(store.root / label, record, lineage(store, record), store, catalogue.config_dir)
    environment = of_artefact(origin, label)
    if environment is None:
        raise UserError(f"--pair: no record names the environment of {label}")
    actions = pairs.runs["action"][row.clean][: row.states - 1]
    return Scene(
        env=of_environment(environment, catalogue.config_dir).id,
        world=_world(str(row.variant), config["seed"]),
        actions="".join(LETTERS[action] for action in actions),
        reward_to_go=float(row.reward_to_go),
        edits=tuple(config["edits"][row.edit]),
        cursor=int(row.states),
        contrast=(ACTIONS[pairs.about["positive"]], ACTIONS[pairs.about["negative"]]),
    )


def _world(variant: str, seed: int) -> str:
    """The name of a world of these pairs: a sampled one, ``world 3``, is that of a seed of its own."""
    sampled = _SAMPLED.fullmatch(variant)
    if sampled is None:
        return variant
    place = int(sampled[1])
    return f"seed:{seeds(seed, place + 1)[place]}"
