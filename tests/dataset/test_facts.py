"""Facts at every step: recorded, or found by playing episodes again; what windows show of them."""

import dataclasses
import shutil

import numpy as np
import pyarrow as pa
import pytest

from dtx.config.compose import build_group
from dtx.dataset.episodes import Split
from dtx.dataset.facts import Availability, Facts, check_derived
from dtx.dataset.reading import TYPES
from dtx.dataset.rollouts import Rollouts, Share
from dtx.env.facts import views
from dtx.env.memory import Memory
from dtx.env.roles import world_of
from dtx.env.vector import Backend
from dtx.errors import UserError
from dtx.running.plan import plan
from dtx.running.runner import run
from tests.agents import Constant

TASKS = {
    "memory": ["env=memory", "env.max_steps=16"],
    "door_key": ["env=door_key", "env.max_steps=40"],
    "dynamic_obstacles": ["env=dynamic_obstacles"],
    "minigrid": ["env=minigrid", "env.id=MiniGrid-MultiRoom-N2-S4-v0", "env.max_steps=20"],
}
NOW, EARLIER, HIDDEN = Availability


def stage(task="memory", facts=True, **changes) -> Rollouts:
    env = build_group(f"env/{task}", TASKS[task][1:])
    logits = (0.5, 0.5, 1.5, 1.0, 0.0, 1.0, 0.0)[: env.n_actions]
    values = {
        "env": env, "agent": Constant(logits=logits), "episodes": 60,
        "mixture": (Share(temperature=1, share=1),), "environments": 8, "validation": 0.1, "seed": 0,
        "facts": facts,
    }  # fmt: skip
    return Rollouts(**{**values, **changes})


@pytest.fixture(params=TASKS)
def recorded(request, store, experiment_of):
    dataset = stage(request.param)
    run(experiment_of(dataset))
    return dataset


def test_views_drawn_from_recorded_worlds_are_the_recorded_views(recorded):
    facts = recorded.load_facts()
    episodes = recorded.load()
    drawn = views(world_of(recorded.env.make()), facts.states)
    assert (drawn[facts.state] == episodes.observations[episodes.observation]).all()
    assert len(facts.state) == len(episodes.action) > 100


def test_all_columns_are_had_and_derived_ones_follow(recorded):
    facts = recorded.load_facts({"far": "x + y > 4", "here": "far and ahead == 'empty'"})
    assert {"far", "here", "x", "ahead", "cell_1_1"} <= set(facts.names)
    for name in facts.names:
        column, shown = facts.column(name), facts.availability(name)
        assert len(column) == len(shown) == len(facts.state)
        assert set(column.tolist()) == set(facts.values(name).tolist())
    wanted = (facts.column("x") + facts.column("y") > 4) & (facts.column("ahead") == "empty")
    assert (facts.column("here") == wanted).all()


def test_recording_changes_no_episode(store, experiment_of):
    env = dataclasses.replace(stage().env, backend=Backend.gymnasium)
    plain, recorded = (stage(facts=facts, env=env) for facts in (False, True))
    run(experiment_of(plain, recorded))
    files = [store.done(one)["files"] for one in (plain, recorded)]
    assert all(files[0][name] == files[1][name] for name in ("steps.arrow", "observations.arrow"))
    assert set(files[1]) - set(files[0]) == {"poses.arrow", "worlds.arrow"}
    assert plain.key != recorded.key


@pytest.mark.parametrize("backend", [Backend.auto, Backend.gymnasium])
def test_memory_played_again_gives_what_was_recorded(store, experiment_of, tmp_path, backend):
    env = dataclasses.replace(stage().env, backend=backend)
    dataset = stage(facts=backend is Backend.gymnasium, env=env, episodes=100)
    run(experiment_of(dataset))
    if backend is Backend.auto:
        again = dataset.load_facts()
        drawn = views(world_of(env.make()), again.states)
        episodes = dataset.load()
        assert (drawn[again.state] == episodes.observations[episodes.observation]).all()
        return
    recorded = dataset.load_facts()
    for name in TYPES:  # as an earlier version wrote it
        shutil.copy(store.folder(dataset) / f"{name}.arrow", tmp_path)
    again = Facts.read(tmp_path, env)
    for name in ("x", "y", "direction", "instruction", "target_side", "carrying", "cell_5_1"):
        assert (recorded.column(name) == again.column(name)).all()
        assert (recorded.availability(name) == again.availability(name)).all()


def test_episodes_that_fit_several_layouts_or_none_are_told(store, experiment_of):
    env = Memory(size=11, max_steps=20, backend=Backend.gymnasium)
    dataset = stage(facts=False, env=env)  # few see an object at the junction
    run(experiment_of(dataset))
    with pytest.raises(UserError, match=r"\d+ of 60 episodes fit several layouts .*facts=true"):
        dataset.load_facts()
    small = Memory(size=7, max_steps=20, backend=Backend.gymnasium)
    with pytest.raises(UserError, match=r"\d+ of 60 episodes fit no layout"):
        Facts.read(dataset.path, small)


def test_facts_that_were_not_recorded_are_told(store, experiment_of):
    dataset = stage("door_key", facts=False)
    run(experiment_of(dataset))
    with pytest.raises(
        UserError, match=r"no facts were recorded; record again with dataset\.facts"
    ):
        dataset.load_facts()


def brute(facts, name, begin, at):
    """What a window shows, asked view by view."""
    fact, shown = facts.fact(name), facts.states.shown(views_of(facts))
    if fact.of:
        return max(brute(facts, other, begin, at) for other in fact.of)
    told = fact.told(shown)
    for step in range(at, begin - 1, -1):
        if told[facts.state[step]]:
            same = facts.column(name)[step] == facts.column(name)[at]
            return NOW if step == at else EARLIER if same else HIDDEN
    return HIDDEN


def views_of(facts):
    episodes = facts.episodes
    rows = np.array([np.flatnonzero(facts.state == i)[0] for i in range(len(facts.states))])
    return episodes.observations[episodes.observation[rows]]


@pytest.mark.parametrize("task", ["memory", "door_key", "dynamic_obstacles"])
def test_what_windows_show_is_what_their_views_tell(store, experiment_of, task):
    dataset = stage(task)
    run(experiment_of(dataset))
    names = {
        "memory": ["instruction", "left_object", "target_side", "ahead", "x", "cell_5_1"],
        "door_key": ["door", "key_x", "carrying", "left_of_agent", "cell_1_1", "near"],
        "dynamic_obstacles": ["ahead", "balls_beside", "cell_2_2", "goal_x"],
    }[task]
    derived = {"near": "abs(x - key_x) <= 1 and door == 'locked'"} if task == "door_key" else {}
    facts, rng = dataset.load_facts(derived), np.random.default_rng(0)
    episodes = facts.episodes
    episode = rng.integers(0, len(episodes.start), 40)
    at = episodes.start[episode] + rng.integers(0, episodes.length[episode])
    begin = rng.integers(episodes.start[episode], at + 1)
    seen = set()
    for name in names:
        found = facts.availability(name, at, begin)
        assert found.tolist() == [brute(facts, name, *w) for w in zip(begin, at, strict=True)], name
        seen |= set(found.tolist())
        whole = facts.availability(name)
        assert (whole[at] == facts.availability(name, at)).all() and (whole[at] <= found).all()
    assert seen == {0, 1, 2}


def test_plan_says_that_steps_are_slower(store):
    with_facts, without = (stage(facts=facts) for facts in (True, False))
    said = [plan([one], store)[-1] for one in (with_facts, without)]
    assert "facts: recorded on gymnasium" in said[0].why and "facts" not in said[1].why
    assert said[0].seconds > 10 * said[1].seconds


DERIVED = {
    "near": "abs(x - 1) <= 1",
    "again": "near and instruction == 'key'",
    "behind": "cell_0_0 == 'wall'",
    "lost": "nowhere + 1",
    "mixed": "instruction < 3",
    "x": "y",
    "not a name": "x",
    "cell_1_1": "x",
    "call": "open('file')",
}


def test_expressions_are_checked_against_the_environment():
    found = dict(check_derived(DERIVED, stage().env))
    assert set(found) == {"lost", "mixed", "x", "not a name", "cell_1_1", "call"}
    assert found["lost"].startswith("'nowhere + 1' names 'nowhere', which is no fact")
    assert found["x"] == "'x' is there already"
    assert all("\n" not in what for what in found.values())
    assert not list(check_derived({}, stage().env))


@pytest.mark.parametrize(
    ("file", "column", "value", "what"),
    [
        ("poses", "world", 99, "world is beyond"),
        ("poses", "x", 7, "x is beyond"),
        ("poses", "direction", 4, "direction is beyond"),
        ("worlds", "cells", 11, "a cell is beyond"),
    ],
)
def test_impossible_files_are_told(store, experiment_of, file, column, value, what):
    dataset = stage()
    run(experiment_of(dataset))
    path = store.folder(dataset) / f"{file}.arrow"
    with pa.memory_map(str(path)) as source:
        batch = pa.ipc.open_file(source).read_all().combine_chunks().to_batches()[0]
        schema, columns = batch.schema, {n: batch.column(n) for n in batch.schema.names}
        flat = columns[column].flatten() if file == "worlds" else columns[column]
        numbers = flat.to_numpy().copy()
        numbers[0] = value
        changed = pa.array(numbers)
        if file == "worlds":
            changed = pa.FixedSizeListArray.from_arrays(changed, 147)
        columns[column] = changed
        new = pa.record_batch(list(columns.values()), schema=schema)
    path.unlink()
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        writer.write_batch(new)
    with pytest.raises(UserError, match=f"{file}.arrow: {what}"):
        Facts.read(store.folder(dataset), dataset.env)


def test_a_file_of_other_episodes_is_told(store, experiment_of):
    one, other = stage(), stage(episodes=50)
    run(experiment_of(one, other))
    path = store.folder(one) / "poses.arrow"
    path.write_bytes((store.folder(other) / "poses.arrow").read_bytes())
    with pytest.raises(UserError, match=r"poses\.arrow: does not have the \d+ steps"):
        Facts.read(store.folder(one), one.env)


def test_the_split_is_as_without_facts(store, experiment_of):
    dataset = stage()
    run(experiment_of(dataset))
    assert (dataset.load().split == Split.VALIDATION).sum() == 6
