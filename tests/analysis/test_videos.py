"""Videos: what is recorded is what happened, and what is drawn is what minigrid draws."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from PIL import Image

from dtx import figures
from dtx.analysis.core.result import Result
from dtx.analysis.videos import Videos
from dtx.analysis.videos.compute import _same, compute
from dtx.analysis.videos.play import play, scene, world
from dtx.analysis.videos.plots import COLUMNS, WORLD, Film
from dtx.config.compose import build_group
from dtx.dt.load import untrained_like
from dtx.dt.rollout import rollout
from dtx.env.actions import ACTIONS
from tests.analysis.core.test_windows import model

TARGETS = (0.0, 0.5, 0.9)


@pytest.fixture
def stage(env, tiny) -> Videos:
    return Videos(
        env=env, dt=tiny, checkpoint=None, targets=TARGETS, layouts=(0, 3), greedy=False, seed=1
    )


@pytest.fixture(scope="module")
def network():
    return model()


@pytest.fixture
def result(stage, network, tmp_path) -> Result:
    compute(stage, network, stage.env).write(tmp_path, "videos")
    return Result.read(tmp_path)


def colours(picture: Image.Image) -> set:
    return {colour for _, colour in picture.getcolors(picture.width * picture.height)}


def test_all_checks_hold_and_sampled_episodes_are_those_of_other_analyses(result, network, stage):
    assert [check.name.split(",")[0] for check in result.checks] == [
        "the recorded actions",
        "probabilities add up to 1",
        "the returns are those of the episodes that every analysis plays",
    ]
    assert all(check.holds for check in result.checks)
    ends, steps = result.tables["ends"], result.tables["steps"]
    assert list(ends.layout.unique()) == ["key/left", "ball/right"] and len(ends) == 6
    vector = stage.env.decision.vector([0, 0, 0, 3, 3, 3], 1)
    numbers = np.repeat([0, 3], 3)
    played = rollout(network, vector, np.tile(TARGETS, 2), seed=1, episode=numbers)
    assert ends.steps.tolist() == played.length.tolist() and steps.step.max() > 5
    np.testing.assert_allclose(ends["return"], played.returns, atol=1e-6)


def test_a_step_has_its_action_reward_and_probabilities(result):
    steps, ends = result.tables["steps"], result.tables["ends"]
    names = [f"p_{name}" for name in ACTIONS]
    assert set(names) < set(steps.columns) and set(steps.action) <= set(ACTIONS)
    np.testing.assert_allclose(steps[names].sum(axis=1), 1, atol=1e-12)
    for _, end in ends.iterrows():
        mine = steps[(steps.layout == end.layout) & (steps.target == end.target)]
        assert mine.step.tolist() == list(range(end.steps))
        assert mine.reward.sum() == pytest.approx(end["return"])
        assert mine.reward_to_go.iloc[0] == pytest.approx(end.target)
    assert len(result.arrays["grids"]) == len(result.arrays["seen"]) == len(result.arrays["agents"])
    assert max(steps.scene.max(), ends.scene.max()) == len(result.arrays["grids"]) - 1


def test_greedy_takes_the_most_probable_action(stage, network):
    greedy = dataclasses.replace(stage, greedy=True)
    steps = compute(greedy, network, stage.env).tables["steps"]
    best = steps[[f"p_{name}" for name in ACTIONS]].to_numpy().argmax(1)
    assert [ACTIONS[i] for i in best] == steps.action.tolist()


def test_another_world_or_reward_is_not_the_same_episode(env, network):
    one, other = play(network, env, [(0, 0.9), (1, 0.9)], seed=0, greedy=True).episodes
    again = play(network, env, [(0, 0.9)], seed=0, greedy=True, actions=[one.actions]).episodes[0]
    assert _same(one, again)
    assert not _same(one, dataclasses.replace(again, rewards=[r + 0.1 for r in again.rewards]))
    moved = [dataclasses.replace(again.scenes[0], agent=(1, 1, 0)), *again.scenes[1:]]
    assert not _same(one, dataclasses.replace(again, scenes=moved))
    if len(one.scenes) == len(other.scenes):
        assert not _same(one, other)


def test_an_untrained_model_is_not_established(stage, network):
    """Its probabilities are those of its twins, so the control fails for nearly every one of them."""
    results = [compute(stage, untrained_like(network, seed), stage.env) for seed in range(6)]
    assert sum(not result.established for result in results) >= 4
    reasons = [reason for result in results for reason in result.reasons()]
    assert all("untrained models in the same states" in reason for reason in reasons)


def test_a_world_is_drawn_as_minigrid_draws_it(env, result):
    """Before the size is fitted: every scene of an episode against minigrid's own picture."""
    steps, film = result.tables["steps"], Film(result, "key/left")
    mine = steps[(steps.layout == "key/left") & (steps.target == 0.9)]
    there, tile = world(env, 0, 1), WORLD // 7
    for row in mine.itertuples():
        own = there.get_full_render(highlight=True, tile_size=tile)
        drawn = film._world(row.scene)
        same = Image.fromarray(own).resize((WORLD, WORLD), Image.Resampling.LANCZOS)
        assert np.array_equal(np.asarray(drawn), np.asarray(same))
        there.step(ACTIONS.index(row.action))


def test_a_thing_in_hand_is_named():
    door_key = build_group("env/door_key", ["env.size=5"])
    there = world(door_key, 0, 3)
    assert scene(there).carries == ""
    key = there.grid
    place = next(
        (x, y)
        for x in range(there.width)
        for y in range(there.height)
        if (thing := key.get(x, y)) is not None and thing.type == "key"
    )
    there.carrying = key.get(*place)
    key.set(*place, None)
    assert scene(there).carries == "key"


def test_the_animation_has_a_frame_a_step_and_the_palettes_colours(result, tmp_path):
    film = Film(result, "ball/right")
    film.write_gif(tmp_path / "a.gif")
    with Image.open(tmp_path / "a.gif") as gif:
        assert gif.info["loop"] == 0  # for ever
        assert gif.width <= 800 and gif.width == film.frame(0).width
        shown = 0
        for frame in range(gif.n_frames):
            gif.seek(frame)
            shown += gif.info["duration"]
        # Equal frames are one that stays longer.
        assert shown == film.longest * 700 + 2500 and gif.n_frames <= film.longest + 1
        gif.seek(0)
        first = colours(gif.convert("RGB"))
    # Every colour of a bar that the first frame has is in the file, exactly.
    bars = {figures.ACTION_COLOURS[name] for name in ("left", "right", "forward")}
    wanted = {tuple(int(c[i : i + 2], 16) for i in (1, 3, 5)) for c in bars}
    assert wanted & colours(film.frame(0)) == wanted & first != set()


def test_an_episode_that_has_ended_stays_at_its_end(result):
    film = Film(result, "key/left")
    lengths = film.ends.steps.tolist()
    if len(set(lengths)) > 1:
        number, length = int(np.argmin(lengths)), min(lengths)
        panels = [film._panel(number, step).tobytes() for step in (length, film.longest)]
        assert panels[0] == panels[1] != film._panel(number, length - 1).tobytes()
    assert film.longest == max(lengths) and 0 <= film.apart() < min(lengths)


def test_the_stage_writes_a_strip_and_an_animation_of_each_layout(stage, result, tmp_path):
    drawn = list(stage.figures(result))
    assert [name for name, _ in drawn] == ["videos", "videos", "videos_2", "videos_2"]
    stage.redraw(tmp_path)
    names = sorted(path.name for path in (tmp_path / "figures").iterdir())
    assert names == ["videos.gif", "videos.html", "videos.png", "videos_2.gif", "videos_2.png"]
    with Image.open(tmp_path / "figures" / "videos.png") as strip:
        assert strip.width == film_width(len(TARGETS))


def film_width(panels: int) -> int:
    return 8 + min(panels, COLUMNS) * 260


@pytest.mark.parametrize(
    ("changes", "field", "what"),
    [
        ({"layouts": (4,)}, "layouts", "numbers 0 to 3; 4 is none"),
        ({"layouts": (1, 1)}, "layouts", "each must be there once"),
        ({"targets": (0.5, 0.5)}, "targets", "each must be there once"),
    ],
)
def test_what_is_not_there_is_refused(stage, changes, field, what):
    (found,) = dataclasses.replace(stage, **changes).check()
    assert found[0] == field and what in found[1]


def test_worlds_without_layouts_are_played_by_their_number(network):
    env = build_group("env/door_key", ["env.size=5", "env.max_steps=12"])
    plays = play(network, env, [(0, 0.9), (1, 0.9)], seed=0, greedy=True)
    assert not plays.episodes[0].scenes[0].same(plays.episodes[1].scenes[0])
    assert all(len(e.actions) <= 12 for e in plays.episodes)
