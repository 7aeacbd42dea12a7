import numpy as np
import pytest

from dtx.app.places import place, world_at_start
from dtx.app.play import play, seen_cells, shown
from dtx.app.scene import LETTERS, Scene
from dtx.pairs.runs import copied

FLIP = {"op": "set_type", "select": {"role": "instruction"}, "to": {"ball": "key", "key": "ball"}}


@pytest.mark.parametrize(
    "id",
    [
        "memory",
        "door_key,size=6",
        "dynamic_obstacles",
        "minigrid,id=BabyAI-GoToRedBall-v0,max_steps=30",
    ],
)
def test_a_run_is_what_minigrid_does(id):
    where = place(id)
    rng = np.random.default_rng(0)
    for number in range(3):
        name = where.known("" if number == 0 else f"seed:{number}")
        world = copied(world_at_start(where, name))
        views, rewards, over = [world.gen_obs()["image"]], [], False
        letters = ""
        while not over and len(letters) < 40:
            action = int(rng.integers(where.environment.n_actions))
            letters += LETTERS[action]
            seen, reward, terminated, truncated, _ = world.step(action)
            views.append(seen["image"])
            rewards.append(np.float32(reward))
            over = terminated or truncated
            # As a held key asks: each time one action more.
            side = play(Scene(world=name, actions=letters), where, 0.5).original
            assert np.array_equal(side.frames[-1].grid, world.grid.encode())
            assert side.frames[-1].agent == (*map(int, world.agent_pos), int(world.agent_dir))
            assert bool(side.frames[-1].over) == over
        assert np.array_equal(side.views, np.stack(views))
        assert side.rewards.tolist() == rewards
        whole = play(Scene(world=name, actions=letters + "ff"), where, 0.5)
        assert whole.original.states >= len(views) and (not over or whole.messages)


def test_what_the_agent_sees_is_what_minigrid_highlights():
    world = copied(world_at_start(place("memory"), "ball/left"))
    rng = np.random.default_rng(1)
    for _ in range(30):
        seen = seen_cells(world)
        lit = world.get_full_render(highlight=True, tile_size=8)
        dark = world.get_full_render(highlight=False, tile_size=8)
        differs = (lit != dark).any(-1).reshape(world.height, 8, world.width, 8).any((1, 3)).T
        assert (differs <= seen).all()  # a cell whose colour is at its brightest shows no highlight
        assert differs.sum() > seen.sum() / 2
        world.step(int(rng.integers(3)))


def test_an_edit_makes_a_second_run_of_the_same_actions():
    where = place("memory")
    played = play(Scene(world="key/left", actions="ffff", edits=(FLIP,)), where, 0.892)
    assert played.edited is not None and played.edited.actions == played.original.actions
    assert played.changed == ["S1"]  # the instruction is out of view after that
    assert shown(played, None)["edited"]["grids"].shape == (1, 7, 7, 3)


def test_edits_of_views_rewards_and_actions_are_of_the_steps_they_name():
    where = place("memory")
    edits = (
        {"op": "set_rtg", "value": 0.25, "scope": "index", "index": 2},
        {"op": "obs_set", "frame": "last", "view": [0, 0], "type": "ball", "ood": True},
    )
    played = play(Scene(world="key/left", actions="fff", cursor=2, edits=edits), where, 0.5)
    assert played.edited is not None
    assert played.edited.reward_to_go.tolist() == [0.5, 0.5, 0.25, 0.5]
    assert played.edited.unusual.tolist() == [
        False,
        True,
        False,
        False,
    ]  # the last up to the cursor
    turned = play(
        Scene(
            world="key/left", actions="ff", edits=({"op": "set_action", "step": 0, "to": "left"},)
        ),
        where,
        0.5,
    )
    assert turned.edited is not None and turned.edited.actions == (0, 2)
    assert turned.changed == ["A1", "S2", "S3"]


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        ({"op": "move", "select": {"role": "agent"}, "to": [0, 0]}, "outer wall"),
        ({"op": "set_type", "select": {"role": "nobody"}, "to": "key"}, "nobody"),
        ({"op": "set_action", "step": 9, "to": "left"}, "none is number 9"),
        ({"op": "fly"}, "no operation 'fly'"),
    ],
)
def test_an_impossible_edit_leaves_the_original_and_says_why(edit, reason):
    played = play(Scene(world="key/left", actions="ff", edits=(edit,)), place("memory"), 0.5)
    assert played.edited is None and reason in played.impossible
    assert played.original.states == 3


def test_what_a_scene_asks_too_much_of_is_told_and_left_out():
    where = place("dynamic_obstacles")
    played = play(Scene(actions="fpd", cursor=99, tokens={1: 0.75, 50: 1.0}), where, 0.5)
    assert {m.part for m in played.messages} == {"actions", "cursor"}
    assert played.scene.actions == "f" and played.cursor == 2
    assert played.original.reward_to_go[0] == 0.75
