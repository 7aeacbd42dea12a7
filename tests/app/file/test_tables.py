"""Worlds as tables against minigrid."""

from __future__ import annotations

from collections import deque

import numpy as np
import pytest

from dtx.app.file import tables
from dtx.app.file.tables import Pool, Table
from dtx.app.places import Place, place, world_at_start
from dtx.app.play import seen_cells
from dtx.errors import UserError
from dtx.pairs.runs import act_once, copied


def table_of(where: Place, world: str) -> tuple[Pool, Table]:
    pool = Pool(where.environment.n_actions, where.environment.horizon)
    return pool, pool.table(world_at_start(where, world), world)


def assert_same(pool: Pool, table: Table, state: int, world, view: np.ndarray) -> None:
    assert np.array_equal(pool.grids.arrays[table.grid[state]], world.grid.encode())
    assert np.array_equal(pool.views.arrays[table.view[state]], view)
    assert np.array_equal(pool.seen.arrays[table.seen[state]], seen_cells(world))
    assert tuple(table.agent[state]) == (*map(int, world.agent_pos), world.agent_dir)
    held = (-1, -1, -1) if world.carrying is None else world.carrying.encode()
    assert tuple(table.carrying[state]) == held


def follow(where: Place, world: str, pool: Pool, table: Table, actions) -> str:
    """Play in both; how the episode ended, "" if it did not."""
    now, state = copied(world_at_start(where, world)), 0
    assert_same(pool, table, 0, now, now.gen_obs()["image"])
    for step, action in enumerate(actions, 1):
        view, reward, terminated, truncated = act_once(now, int(action))
        known = float(pool.curves[table.reward[state, action]][step])
        state = int(table.next[state, action])
        assert known == reward
        assert_same(pool, table, state, now, view)
        assert (table.next[state, 0] < 0) == terminated
        if terminated or truncated:
            return "limit" if not terminated else "success" if reward > 0 else "failure"
    return ""


def way_to_reward(table: Table) -> list[int]:
    """The shortest way to a reward."""
    waiting, seen = deque([(0, [])]), {0}
    while waiting:
        state, way = waiting.popleft()
        for action, (after, reward) in enumerate(
            zip(table.next[state], table.reward[state], strict=True)
        ):
            if reward:
                return [*way, action]
            if after >= 0 and after not in seen:
                seen.add(after)
                waiting.append((int(after), [*way, action]))
    raise AssertionError("no reward")


@pytest.mark.parametrize(
    ("env", "world", "states", "shortest"),
    [
        ("memory", "key/left", 42, 6),
        ("memory,size=9", "ball/right", 50, 8),
        ("door_key", "seed:0", 270, 11),
    ],
)
def test_a_table_is_minigrid_step_by_step(env, world, states, shortest):
    where = place(env)
    pool, table = table_of(where, world)
    way = way_to_reward(table)
    assert (table.states, len(way)) == (states, shortest)
    assert follow(where, world, pool, table, way) == "success"
    # The reward falls with the steps that went before.
    turned = [0, 0, 0, 0, *way]
    assert follow(where, world, pool, table, turned) == "success"
    rng = np.random.default_rng(0)
    ends = [
        follow(where, world, pool, table, rng.integers(0, 7, where.environment.horizon))
        for _ in range(10)
    ]
    assert set(ends) & {"limit", "failure"}


def test_worlds_of_one_environment_share_what_is_alike():
    where = place("memory")
    pool = Pool(7, where.environment.horizon)
    made = [pool.table(world_at_start(where, name), name) for name in where.worlds]
    assert [table.states for table in made] == [42] * 4
    assert len(pool.grids.arrays) == 4
    assert len(pool.seen.arrays) < 42  # the same walls everywhere
    assert len(pool.curves) == 2
    assert pool.arrays()["views"].shape == (len(pool.views.arrays), 7, 7, 3)


def test_a_random_world_is_refused():
    with pytest.raises(UserError, match="what an action does is random; play it with `dtx app`"):
        table_of(place("dynamic_obstacles"), "seed:0")


def test_a_world_with_too_many_states_is_refused(monkeypatch):
    monkeypatch.setattr(tables, "MOST_STATES", 200)
    with pytest.raises(UserError, match=r"more than 200 states .* choose a smaller world"):
        table_of(place("door_key"), "seed:0")
