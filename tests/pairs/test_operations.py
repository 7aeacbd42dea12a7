"""Another action at a step, any cell of a view, the agent's direction, single reward-to-go tokens."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from dtx.config.compose import build_group
from dtx.env.roles import world_of
from dtx.pairs.apply import edit_actions, edit_observations
from dtx.pairs.edits import Edit, Impossible, read
from dtx.pairs.making import Making, make
from dtx.pairs.policies import AgentPolicy, EpisodePolicy, ModelPolicy, Search
from dtx.pairs.runs import Refused, play
from tests.agents import ConstantAgent
from tests.pairs.build import declared, errors_of, made, model

LEFT, RIGHT, FORWARD, DONE = 0, 1, 2, 6
KEY, BALL, WALL = 5, 6, 2


def edits_of(*operations: dict) -> list[Edit]:
    return read({"mine": operations})["mine"]


def stepped(env, layout: int, actions: list[int]) -> np.ndarray:
    """What minigrid itself shows, (t, 7, 7, 3)."""
    made = env.decision.make(layout)
    seen = [made.reset(seed=0)[0]["image"]]
    return np.stack(seen + [made.step(action)[0]["image"] for action in actions])


# --- another action ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "to", "taken"),
    [
        ("first", "left", [LEFT, FORWARD, FORWARD, FORWARD]),
        ("last", "done", [FORWARD, FORWARD, FORWARD, DONE]),
        (2, "right", [FORWARD, FORWARD, RIGHT, FORWARD]),
    ],
)
def test_what_is_seen_after_another_action_follows_from_it(step, to, taken, tmp_path):
    edits = f"other: [{{op: set_action, step: {step}, to: {to}}}]"
    stage = declared("memory", dataset=None, edits=edits, source__reward_to_go=[0.9])
    pairs = made(stage, tmp_path)
    at = taken.index(next(action for action in taken if action != FORWARD))
    (batch,) = pairs.batches(model())
    rows = np.flatnonzero(batch.kind("edit"))
    assert len(rows) == 4
    for layout, row in enumerate(rows):
        pair = batch.table.loc[row]
        assert (pairs.runs["action"][pair["corrupt"], :4] == taken).all()
        seen = pairs.runs["observation"][pair["corrupt"], :5]
        assert (seen == stepped(stage.env, layout, taken)).all()
        changed = pair["changed"].split()
        assert changed[0] == f"A{at + 1}" and {int(name[1:]) for name in changed[1:]} <= {
            *range(at + 2, 6)
        }
        named = {n for n, there in zip(batch.names, batch.changed[row], strict=True) if there}
        assert named == set(changed) and not pair["ood"]


def test_donors_of_another_action_are_like_the_run_with_their_action(tmp_path):
    edits = (
        "{stop: [{op: set_action, step: 1, to: done}], noop: [{op: set_action, step: 0, to: drop}]}"
    )
    stage = declared("memory", dataset=None, edits=edits, source__reward_to_go=[0.9])
    table = made(stage, tmp_path).table
    donors = table[table["of"] >= 0]
    assert len(donors) == 2 * 8
    assert (donors["kind"].str.removeprefix("donor_") == donors["edit_as"]).all()


def test_an_action_that_ends_the_episode_early_is_refused():
    # At the junction: left, then forward ends it; the clean run only turns.
    actions = ["forward"] * 4 + ["left", "done", "done"]
    edits = "end: [{op: set_action, step: 5, to: forward}]"
    stage = declared("memory", dataset=None, edits=edits, at=7, source__prefix__actions=actions)
    reasons = {row["reason"] for row in make(stage).refused if row["edit"] == "end"}
    assert reasons == {"the episode ended with step 6"}
    checks = dataclasses.replace(stage.checks, no_early_termination=False)
    pairs = make(dataclasses.replace(stage, checks=checks)).pairs
    assert sum(pair["kind"] == "edit" for pair in pairs) == 8


def test_actions_of_a_run_are_edited_in_a_copy():
    actions = np.array([2, 2, 2])
    edits = edits_of(
        {"op": "set_action", "step": "last", "to": "done"},
        {"op": "remove", "select": {"role": "key"}},
        {"op": "set_action", "step": 0, "to": "left"},
    )
    assert edit_actions(actions, edits).tolist() == [0, 2, 6] and actions.tolist() == [2, 2, 2]
    for step, words in [(3, "has 3 actions, none is number 3"), (99, "number 99")]:
        with pytest.raises(Impossible, match=words):
            edit_actions(actions, edits_of({"op": "set_action", "step": step, "to": "left"}))
    for step in ("first", "last", 0):
        with pytest.raises(Impossible, match="the run has 0 actions"):
            edit_actions(actions[:0], edits_of({"op": "set_action", "step": step, "to": "left"}))


@pytest.mark.parametrize("at", [0, 2])
def test_a_pair_may_be_about_any_step_of_a_script(at, tmp_path):
    edits = "{flip: [{op: set_type, select: {role: instruction}, to: {key: ball, ball: key}}]}"
    stage = declared("memory", dataset=None, at=at, edits=edits, source__reward_to_go=[0.9])
    assert len(stage.source.prefix.actions) == 4
    pairs = made(stage, tmp_path)
    assert (pairs.table["states"] == at + 1).all()
    (batch,) = pairs.batches(model())
    assert batch.names[-1] == f"S{at + 1}" and batch.kind("edit").sum() == 4


def test_the_last_action_is_that_of_the_clean_run_not_of_the_script():
    edits = "stop: [{op: set_action, step: last, to: done}]"
    runs = make(declared("memory", dataset=None, at=2, edits=edits)).runs
    assert {tuple(run.actions) for run in runs} == {(FORWARD, FORWARD), (FORWARD, DONE)}
    errors = errors_of("memory", dataset=None, at=2, edits=edits.replace("last", "2"))
    assert "has 2 actions, none is number 2" in errors["pairs.edits.stop[0]"]


# --- the policy goes on after another action ---------------------------------------------------------


def start(layout: int = 0):
    env = build_group("env/memory")
    made = env.decision.make(layout)
    made.reset(seed=0)
    return env, world_of(made)


def test_a_search_goes_on_from_where_the_action_led():
    env, world = start()
    reached = env.roles.predicates()["decision"]

    def there(seen: np.ndarray, step: int) -> bool:
        return bool(reached(seen))

    search = Search(there, env.n_actions, 12)
    run = play(world, env.roles, search, there, target=0.9, longest=12, given={1: LEFT, 3: DONE})
    assert run.actions == [FORWARD, LEFT, RIGHT, DONE, FORWARD, FORWARD, FORWARD]
    env, world = start()
    with pytest.raises(Refused, match="no way there of at most 5 steps"):
        search = Search(there, env.n_actions, 5)
        play(world, env.roles, search, there, target=0.9, longest=5, given={1: LEFT})


def test_a_search_stops_where_the_action_ends_the_episode():
    env, world = start()
    aim = stepped(env, 0, [FORWARD] * 4 + [RIGHT])[-1]

    def there(seen: np.ndarray, step: int) -> bool:
        return bool((seen == aim).all())

    with pytest.raises(Refused, match="the episode ended with step 6"):
        search = Search(there, env.n_actions, 9)
        given = {4: LEFT, 5: FORWARD}
        play(world, env.roles, search, there, target=0.9, longest=9, given=given)


def test_models_and_agents_know_that_another_action_was_taken():
    network = model()
    env, world = start()
    policy = ModelPolicy(network, 9, env.n_actions)
    run = play(world, env.roles, policy, 6, target=0.9, longest=9, given={0: DONE, 2: LEFT})
    assert run.actions[0] == DONE and run.actions[2] == LEFT
    assert policy._history.action[0, :6].tolist() == run.actions
    agent = AgentPolicy(ConstantAgent(torch.tensor([0, 0, 1.0, 0, 0, 0, 0])))
    for _ in range(2):  # a new episode counts anew
        env, world = start()
        run = play(world, env.roles, agent, 4, target=0.9, longest=9, given={1: DONE})
        assert run.actions == [FORWARD, DONE, FORWARD, FORWARD]


def test_a_recorded_episode_must_have_taken_the_action():
    from dtx.dataset.episodes import Episodes

    env, _ = start()
    ways = [[FORWARD, FORWARD, FORWARD], [FORWARD, LEFT, RIGHT], [LEFT, RIGHT, FORWARD]]
    seen = [stepped(env, 0, way)[:3] for way in ways]
    rows = np.concatenate(seen)
    episodes = Episodes(
        observations=rows,
        observation=np.arange(9, dtype=np.int32),
        action=np.concatenate(ways).astype(np.uint8),
        reward=np.zeros(9, np.float32),
        start=np.array([0, 3, 6]),
        length=np.array([3, 3, 3], np.int32),
        outcome=np.zeros(3, np.uint8),
        temperature=np.ones(3, np.float32),
        split=np.zeros(3, np.uint8),
    )
    for given, taken in [({}, ways[0]), ({1: LEFT}, ways[1]), ({0: LEFT}, ways[2])]:
        env, world = start()
        policy = EpisodePolicy(episodes, lambda _, step: step == 2, 9)
        run = play(world, env.roles, policy, 2, target=0.9, longest=9, given=given)
        assert run.actions == taken[:2]
    env, world = start()
    with pytest.raises(Refused, match="no recorded episode"):
        play(world, env.roles, policy, 2, target=0.9, longest=9, given={0: DONE})


# --- any cell of a view ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("view", "fields", "cell"),
    [
        ([2, 6], {"type": "key", "colour": "blue"}, (KEY, 2, 0)),  # shows the instruction
        ([0, 5], {"type": "key"}, (KEY, 1, 0)),  # not seen
        ([3, 6], {"type": "key"}, (KEY, 1, 0)),  # the agent's own: what is in its hand
        ([2, 6], {"type": "empty"}, (1, 0, 0)),
        ([2, 6], {"type": "unseen"}, (0, 0, 0)),
        ([6, 0], {"type": "wall"}, (WALL, 5, 0)),
        ([6, 0], {"type": "lava"}, (9, 0, 0)),
        ([6, 0], {"type": "goal", "colour": "red"}, (8, 0, 0)),
        ([3, 5], {"type": "door"}, (4, 1, 1)),
        ([3, 5], {"type": "door", "colour": "red", "state": "open"}, (4, 0, 0)),
        ([3, 5], {"type": "door", "state": "locked"}, (4, 1, 2)),
        ([3, 5], {"type": "complement"}, (BALL, 1, 0)),
    ],
)
def test_any_cell_of_a_view_can_show_anything(view, fields, cell):
    env, world = start()  # the instruction is a key
    seen = np.stack([world.gen_obs()["image"]] * 3)
    (edit,) = edits_of({"op": "obs_set", "frame": 1, "view": view, "ood": True, **fields})
    edited = edit_observations(seen, [edit], env.roles)
    assert tuple(edited[1, *view]) == cell
    differs = (edited != seen).any(-1)
    assert differs.sum() == 1 and differs[1, *view]


def test_a_free_cell_and_a_wall_are_encoded_as_minigrid_does():
    env, world = start()
    seen = world.gen_obs()["image"][None]
    kinds = {1: "empty", WALL: "wall", 0: "unseen"}
    found = {int(kind): (i, j) for (i, j), kind in np.ndenumerate(seen[0, ..., 0])}
    for number, kind in kinds.items():
        cell = found[number]
        (edit,) = edits_of({"op": "obs_set", "frame": 0, "view": cell, "type": kind, "ood": True})
        assert (edit_observations(seen, [edit], env.roles) == seen).all()


def test_a_set_cell_is_marked_as_out_of_distribution(tmp_path):
    edits = (
        "{gone: [{op: obs_set, frame: last, view: [1, 6], type: empty, ood: true}],"
        " up: [{op: turn, to: up}]}"
    )
    table = made(declared("memory", dataset=None, edits=edits), tmp_path).table
    edited = table[table["kind"] == "edit"].set_index("edit")
    assert edited.loc["gone", "ood"].all() and not edited.loc["up", "ood"].any()
    assert set(edited.loc["gone", "changed"]) == {"S5"}


def test_a_view_is_that_of_the_edited_world_when_edits_are_tried():
    """The instruction is removed, so its cell is free for something else."""
    edits = (
        "other: [{op: remove, select: {role: instruction}},"
        " {op: obs_add, frame: first, view: [2, 6], type: box, ood: true}]"
    )
    search = {"policy": "search", "actions": [], "of": None, "longest": 8}
    for changes in ({}, {"source__prefix": search}):
        stage = declared("memory", dataset=None, edits=edits, **changes)
        assert sum(pair["kind"] == "edit" for pair in make(stage).pairs) == 8


# --- the agent's direction, and single tokens --------------------------------------------------------


@pytest.mark.parametrize(("to", "number"), [("down", 1), ("left", 2), ("up", 3)])
def test_the_agent_is_turned(to, number):
    stage = declared("memory", dataset=None, edits=f"turned: [{{op: turn, to: {to}}}]")
    _, world = start()
    world.agent_dir = number
    making = Making(stage, draw=False)
    _, original = start()
    clean = making.clean("key/left", original, 0.9)
    turned = making.edited("key/left", original, 0.9, making.edits["turned"], clean)
    assert (turned.observations[0] == world.gen_obs()["image"]).all()
    assert original.agent_dir == 0


def test_single_reward_to_go_tokens_are_those_of_both_runs(tmp_path):
    tokens = {"R2": 0.25, "R5": -1.0}
    stage = declared("memory", dataset=None, source__tokens=tokens)
    assert stage.key != declared("memory", dataset=None).key
    pairs = made(stage, tmp_path)
    for pair in pairs.table[pairs.table["kind"] == "edit"].itertuples():
        clean = pairs.runs["reward_to_go"][pair.clean, :5]
        corrupt = pairs.runs["reward_to_go"][pair.corrupt, :5]
        given = np.float32([pair.reward_to_go, 0.25, pair.reward_to_go, pair.reward_to_go, -1])
        assert (clean == given).all()
        assert (corrupt == (0 if pair.edit == "rtg_zero" else given)).all()


def test_without_single_tokens_the_key_is_that_of_before():
    stage = declared("memory", dataset=None)
    assert stage.source.tokens == {}
    assert stage.key == declared("memory", dataset=None, source__tokens={}).key


# --- what is wrong -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("edit", "place", "words"),
    [
        ("{op: set_action, step: 1}", ".to", "set_action needs it"),
        ("{op: set_action, step: 1, to: lefd}", ".to", "no action 'lefd' (did you mean 'left'?)"),
        ("{op: set_action, step: -1, to: left}", ".step", "first, last or the number of a step"),
        ("{op: set_action, step: 1.5, to: left}", ".step", "not 1.5"),
        ("{op: set_action, step: true, to: left}", ".step", "not True"),
        ("{op: set_action, frame: 1, to: left}", ".frame", "no such field"),
        ("{op: set_action, step: 4, to: left}", "", "has 4 actions, none is number 4, in each of"),
        ("{op: obs_set, frame: 5, view: [0, 0], type: key, ood: true}", "", "has 5 states"),
        ("{op: obs_set, frame: 0, view: [0, 7], type: key, ood: true}", ".view", "7x7 view"),
        ("{op: obs_set, frame: 0, view: [0, 0], type: key}", ".ood", "obs_set needs it"),
        ("{op: obs_set, frame: 0, view: [0, 0], type: kee, ood: true}", ".type", "'key'"),
        ("{op: obs_set, frame: 0, view: [0, 0], type: agent, ood: true}", ".type", "no type"),
        (
            "{op: obs_set, frame: 0, view: [0, 0], type: empty, colour: red, ood: true}",
            ".colour",
            "a cell that is empty has none",
        ),
        (
            "{op: obs_set, frame: 0, view: [0, 0], type: key, state: open, ood: true}",
            ".state",
            "is a door's",
        ),
        ("{op: obs_add, frame: 0, view: [0, 0], type: empty, ood: true}", ".type", "no type"),
        ("{op: turn, to: north}", ".to", "no direction 'north'"),
        ("{op: turn, to: 1}", ".to", "no direction 1"),
        ("{op: turn}", ".to", "turn needs it"),
    ],
)
def test_a_wrong_operation_is_one_line(edit, place, words):
    errors = errors_of("memory", dataset=None, edits=f"mine: [{edit}]")
    assert words in errors[f"pairs.edits.mine[0]{place}"]
    assert "\n" not in errors[f"pairs.edits.mine[0]{place}"]


def test_a_name_that_yaml_takes_for_no_text_is_told():
    errors = errors_of("memory", dataset=None, edits="no: [{op: turn, to: up}]")
    assert errors == {"pairs.edits.False": "is no text; write the name in quotes"}


def test_an_action_that_the_task_does_not_have_is_told():
    errors = errors_of("dynamic_obstacles", edits="mine: [{op: set_action, step: 0, to: toggle}]")
    assert errors == {
        "pairs.edits.mine[0].to": "toggle is no action of DynamicObstacles",
    }


@pytest.mark.parametrize(
    ("tokens", "place", "words"),
    [
        ({"R0": 1.0}, "tokens.R0", "is no reward-to-go token"),
        ({"S1": 1.0}, "tokens.S1", "is no reward-to-go token"),
        ({"R4": "x"}, "tokens.R4", "a number"),
        ({"R6": 1.0}, "tokens.R6", "a run of 4 steps has 5 states"),
    ],
)
def test_a_wrong_single_token_is_one_line(tokens, place, words):
    errors = errors_of("memory", dataset=None, at=4, source__tokens=tokens)
    assert words in errors[f"pairs.source.{place}"]


def test_a_single_token_behind_a_found_state_refuses_the_run():
    with pytest.raises(Exception, match=r"no clean run: source.tokens.R6: the run has 5 states"):
        declared("memory", dataset=None, source__tokens={"R6": 1.0})
