"""One pair in memory, and as YAML: it is what a stage of the same declaration makes, bit by bit."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from dtx.config.build import Builder
from dtx.config.compose import build_group, compose
from dtx.dt.context import Context
from dtx.env.actions import ACTIONS
from dtx.errors import UserError
from dtx.pairs.as_yaml import as_yaml
from dtx.pairs.declared import Declared
from dtx.pairs.edits import Impossible
from dtx.pairs.pair_set import PairBatch
from dtx.pairs.runs import Refused
from dtx.pairs.single import OnePair, declaration
from dtx.pairs.spec import PairsSpec
from dtx.pairs.worlds import named_world
from tests.pairs.build import made, model

LEFT, RIGHT, FORWARD, PICKUP, DROP, TOGGLE, DONE = range(7)
FLIP = {
    "op": "set_type",
    "select": {"role": "instruction"},
    "to": {"key": "ball", "ball": "key"},
}
NO_BALLS = {"op": "remove", "select": {"role": "obstacle"}}
OPEN = {"op": "set_state", "select": {"role": "door"}, "to": "open"}


def low(scope: str = "all", **index: int) -> dict:
    return {"op": "set_rtg", "value": 0.0, "scope": scope, **index}


@functools.cache
def env(*words: str):
    return build_group(f"env/{words[0]}", words[1:])


def scene(option: str, world: str, actions: list[int], edits: list[dict], *fields, **more):
    contrast = (LEFT, RIGHT) if option == "memory" else (FORWARD, LEFT)
    return declaration(env(option, *fields), world, actions, 0.9, edits, contrast, **more)


def stage_of(spec: PairsSpec, folder: Path) -> Declared:
    """The stage of a scene's pairs file in a user's own folder."""
    (folder / "pairs").mkdir(parents=True)
    (folder / "pairs" / "mine.yaml").write_text(as_yaml(spec, "mine"))
    builder = Builder(compose(["target=pairs", "pairs=mine", "pairs.dataset=null"], folder))
    stage = builder.at("pairs", Declared)
    builder.finish()
    return stage


def content(context: Context) -> dict[str, torch.Tensor]:
    """What a context says, whatever the order of its table of observations."""
    seen = context["table"][context["observation"]]
    rest = {k: v for k, v in context.items() if k not in ("table", "observation")}
    return {"seen": seen, **rest}


def assert_equal(one: PairBatch, other: PairBatch) -> None:
    pd.testing.assert_frame_equal(one.table, other.table)
    for side in ("clean", "corrupt"):
        mine, theirs = content(getattr(one, side)), content(getattr(other, side))
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(mine[name], theirs[name]) for name in mine), side
    for name in ("changed", "positive", "negative", "control_of"):
        assert torch.equal(getattr(one, name), getattr(other, name)), name
    assert one.roles.keys() == other.roles.keys() and one.names == other.names
    assert all(torch.equal(one.roles[role], other.roles[role]) for role in one.roles)


MEMORY = ("memory", "ball/right", [FORWARD] * 4)
DOOR_KEY = ("door_key", "seed:17", [LEFT, FORWARD, RIGHT, FORWARD])
OBSTACLES = ("dynamic_obstacles", "seed:3", [RIGHT, LEFT, RIGHT])
SCENES = {
    "flipped": scene(*MEMORY, [FLIP]),
    "several operations": scene(*MEMORY, [FLIP, low("index", index=1)], name="both"),
    "single tokens": scene(*MEMORY, [FLIP], tokens={2: 0.25, 5: 0.0, 9: 1.0}),
    "an action": scene(*MEMORY, [{"op": "set_action", "step": 2, "to": "left"}]),
    "a view": scene(
        *MEMORY,
        [{"op": "obs_set", "frame": "last", "view": [1, 6], "type": "empty", "ood": True}],
    ),
    "a layout drawn by its seed": scene("memory", "seed:5", [FORWARD, LEFT], [low("last")]),
    "no action": scene("memory", "key/left", [], [FLIP]),
    "longer than the window": scene("memory", "key/left", [LEFT, RIGHT] * 8, [FLIP]),
    "door_key": scene(*DOOR_KEY, [OPEN]),
    "door_key of another size": scene(*DOOR_KEY, [OPEN, low()], "env.size=6"),
    "dynamic_obstacles": scene(*OBSTACLES, [NO_BALLS]),
    "balls go on the same way": scene(
        *OBSTACLES, [{"op": "set_action", "step": "last", "to": "left"}]
    ),
}


@pytest.mark.parametrize("left_padding", [False, True])
@pytest.mark.parametrize("name", SCENES)
def test_a_pair_in_memory_is_that_of_its_yaml(name, left_padding, tmp_path):
    spec = SCENES[name]
    network = model(left_padding=left_padding, n_timesteps=50)
    pair = OnePair(spec)
    mine = pair.batch(network.cfg)
    stage = stage_of(spec, tmp_path / "conf")
    assert (stage.env, stage.at, stage.seed) == (spec.env, spec.at, spec.seed)
    assert stage.source.tokens == spec.source.tokens
    found = made(stage, tmp_path / "pairs")
    (whole,) = found.batches(network)
    first = (whole.table["variant"] == spec.source.variants[0]).to_numpy()
    assert_equal(mine, whole.where(first))
    kinds = ["null", "edit", "donor_clean", "donor_corrupt"]
    assert [*mine.table["kind"], *pair.missing] == [
        *(kind for kind in kinds if kind not in pair.missing),
        *pair.missing,
    ]
    assert mine.table["changed"][1].split() == pair.changed
    for kind, reason in pair.missing.items():
        rows = found.refused[found.refused["variant"] == spec.source.variants[0]]
        assert reason in set(rows["reason"][rows["edit"].str.startswith(kind)])


def test_both_runs_and_their_distances_are_there_before_any_donor_is_played():
    asked = []

    def world(name: str):
        asked.append(name)
        return named_world(env("memory"), name)

    known = OnePair(SCENES["flipped"]).clean.seen
    pair = OnePair(SCENES["flipped"], worlds=world, known=known)
    assert pair.clean.actions == pair.corrupt.actions == [FORWARD] * 4
    assert pair.changed == ["S1"] and pair.distances == (0, 1)
    few = pair.batch(model().cfg, controls=False)
    assert list(few.table["kind"]) == ["null", "edit"] and asked == ["ball/right"]
    assert list(few.table["corrupt_distance"]) == [0, 1]
    pair.batch(model().cfg), pair.batch(model().cfg)
    assert asked == ["ball/right", "key/left", "key/right", "ball/left"]
    assert OnePair(SCENES["flipped"]).distances is None


def test_without_other_worlds_there_is_no_donor_and_that_is_told():
    pair = OnePair(scene(*MEMORY, [FLIP], others=[]))
    assert list(pair.batch(model().cfg).table["kind"]) == ["null", "edit"]
    assert set(pair.missing) == {"donor_clean", "donor_corrupt"}
    assert all("no other world has a" in reason for reason in pair.missing.values())


def test_a_kept_world_stays_at_its_start():
    kept = functools.cache(functools.partial(named_world, env("dynamic_obstacles")))
    before = kept("seed:3").grid.encode()
    first = OnePair(SCENES["dynamic_obstacles"], worlds=kept)
    again = OnePair(SCENES["dynamic_obstacles"], worlds=kept)
    assert (first.clean.seen == again.clean.seen).all()
    assert (kept("seed:3").grid.encode() == before).all() and kept("seed:3").step_count == 0


# --- what cannot be a pair ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("actions", "edit", "error", "words"),
    [
        ([FORWARD] * 4, {"op": "set_action", "step": 4, "to": "left"}, Impossible, "has 4 actions"),
        ([], {"op": "set_action", "step": "last", "to": "left"}, Impossible, "is no last"),
        ([FORWARD], {"op": "set_action", "step": 0, "to": "forward"}, Refused, "changes nothing"),
        (
            [FORWARD, FORWARD, FORWARD, FORWARD, DONE, FORWARD],
            {"op": "set_action", "step": 4, "to": "left"},
            Refused,
            "the episode ended with step 6",
        ),
        ([FORWARD] * 4 + [LEFT, FORWARD], FLIP, Refused, "the episode ended with step 6"),
        ([], {"op": "turn", "to": "right"}, Refused, "changes nothing"),
        ([], {"op": "remove", "select": {"position": [2, 3]}}, Impossible, "nothing stands at"),
    ],
)
def test_why_there_is_no_pair(actions, edit, error, words):
    with pytest.raises(error, match=words):
        OnePair(scene("memory", "key/left", actions, [edit]))


@pytest.mark.parametrize(
    ("option", "world", "edits", "words"),
    [
        ("memory", "key/lefd", [FLIP], "no layout 'key/lefd' .did you mean 'key/left'"),
        ("door_key", "key/left", [OPEN], "DoorKey has no layouts, so no 'key/left'; name seeds"),
        ("memory", "key/left", [], "is empty"),
        (
            "memory",
            "key/left",
            [{"op": "set_action", "to": "left"}],
            r"\[0\].step: set_action needs",
        ),
        (
            "dynamic_obstacles",
            "seed:1",
            [{"op": "set_action", "step": 0, "to": "toggle"}],
            "toggle is no action of DynamicObstacles",
        ),
    ],
)
def test_what_is_wrong_whatever_the_world_is_one_line(option, world, edits, words):
    with pytest.raises(UserError, match=words) as error:
        OnePair(scene(option, world, [LEFT], edits))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("actions", "contrast", "words"),
    [
        ([7], (0, 1), "actions: 7 is no action of Memory, which has 7"),
        ([-1], (0, 1), "actions: -1 is no action"),
        ([0], (2, 9), "actions: 9 is no action"),
        ([], (2, 2), "contrast: needs two actions, not forward twice"),
    ],
)
def test_actions_that_there_are_not_are_told(actions, contrast, words):
    with pytest.raises(UserError, match=words):
        declaration(env("memory"), "key/left", actions, 0.9, [FLIP], contrast)


# --- the file ----------------------------------------------------------------------------------------


def test_a_file_names_the_world_first_and_the_command():
    text = as_yaml(SCENES["door_key of another size"], "mine")
    raw = yaml.safe_load(text)
    assert text.splitlines()[1] == "# dtx plan target=pairs pairs=mine env.size=6"
    assert raw["defaults"] == [{"override /env@_global_.env": "door_key"}]
    assert raw["env"] == {"_base_": "${env}", "size": 6}
    assert raw["source"]["variants"][:2] == ["seed:17", "seed:18"]
    assert raw["source"]["prefix"]["actions"] == [ACTIONS[a] for a in DOOR_KEY[2]]
    assert raw["at"] == raw["source"]["prefix"]["longest"] == 4 and "tokens" not in raw["source"]
    assert yaml.safe_load(as_yaml(SCENES["flipped"], "mine"))["env"] == "${env}"


def test_numbers_are_read_back_as_they_were(tmp_path):
    values = [0.1 + 0.2, 1e-7, -1e17, 0.892, np.float32(0.3).item()]
    edits = [{**low("index", index=i), "value": value} for i, value in enumerate(values)]
    spec = scene(*MEMORY, edits, tokens={3: 1 / 3})
    stage = stage_of(spec, tmp_path)
    assert [edit["value"] for edit in stage.edits["edited"]] == values
    assert stage.source.tokens == {"R3": 1 / 3}
