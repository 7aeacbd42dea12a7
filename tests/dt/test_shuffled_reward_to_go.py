import dataclasses
import json

import numpy as np
import pytest
import torch

from dtx.config.compose import build_group
from dtx.dataset.episodes import Episodes
from dtx.dt.decision_transformer import DecisionTransformer
from dtx.dt.shuffled_reward_to_go import ShuffledRewardToGo, shuffled
from dtx.dt.spec import Balance
from dtx.dt.windows import Sampler
from dtx.running.runner import run
from tests.dt.toy import Recorded, episodes, tiny

SHUFFLED = "dt/shuffled_reward_to_go"


@pytest.fixture(scope="module")
def pair() -> tuple[Episodes, Episodes]:
    before = episodes(n=6000)
    return before, shuffled(before, 0)


def test_windows_have_the_reward_to_go_of_another_episode_and_nothing_else_differs(pair):
    stage = tiny()
    assert stage.windows.balance is Balance.returns
    achieved = pair[0].returns
    drawn, contexts = [], []
    for data in pair:
        sampler = Sampler(data, stage.model_config(), stage.windows, 0, achieved)
        drawn.append(sampler.draw(np.random.default_rng(0), 4000))
        contexts.append(sampler.context(drawn[-1])[0])
    for one, two in zip(vars(drawn[0]).values(), vars(drawn[1]).values(), strict=True):
        np.testing.assert_array_equal(one, two)
    before, after = contexts
    for name in ("observation", "table", "action", "timestep"):
        assert torch.equal(before[name], after[name])
    # What a window's reward-to-go tells about the return that its own episode got.
    episode = np.searchsorted(pair[0].start, drawn[0].row, side="right") - 1
    achieved = pair[0].returns[episode]
    told = np.corrcoef(before["reward_to_go"][:, 0], achieved)[0, 1]
    told_after = np.corrcoef(after["reward_to_go"][:, 0], achieved)[0, 1]
    assert told == pytest.approx(1) and abs(told_after) < 0.06
    length = np.corrcoef(after["reward_to_go"][:, 0], pair[0].length[episode])[0, 1]
    assert abs(length) < 0.06


def test_drawn_by_dealt_returns_reward_to_go_would_say_something(pair):
    """Why windows are balanced by what was achieved: dealt returns would go with an outcome."""
    stage = tiny()

    def told(returns: np.ndarray | None) -> float:
        sampler = Sampler(pair[1], stage.model_config(), stage.windows, 0, returns)
        drawn = sampler.draw(np.random.default_rng(0), 4000)
        episode = np.searchsorted(pair[1].start, drawn.row, side="right") - 1
        return float(np.corrcoef(pair[1].returns[episode], pair[0].outcome[episode] == 0)[0, 1])

    assert abs(told(pair[0].returns)) < 0.06 < abs(told(None))


def test_returns_are_dealt_within_each_split_and_none_is_lost(pair):
    before, after = pair
    for part in (0, 1):
        mine = before.split == part
        np.testing.assert_array_equal(np.sort(before.returns[mine]), np.sort(after.returns[mine]))
        assert (before.returns[mine] != after.returns[mine]).mean() > 0.3
    for field in dataclasses.fields(Episodes):
        if field.name != "reward":
            assert getattr(before, field.name) is getattr(after, field.name)
    np.testing.assert_array_equal(after.reward, shuffled(before, 0).reward)
    assert (after.reward != shuffled(before, 1).reward).any()


def test_the_option_is_memory_dt_with_another_class_and_key():
    ordinary, negative = build_group("dt/memory_dt"), build_group(SHUFFLED)
    assert type(negative) is ShuffledRewardToGo and negative.name == "shuffled_reward_to_go"
    for field in dataclasses.fields(DecisionTransformer):
        one, two = getattr(ordinary, field.name), getattr(negative, field.name)
        assert one == two
    assert ordinary.key != negative.key
    assert build_group(SHUFFLED, ["dt.steps=900"]).steps == 900


def test_it_trains_on_the_shuffled_returns(store, experiment_of, tmp_path):
    # Not balanced by returns, which are other ones if they were dealt before.
    by_outcome = "dt.windows.balance=success"
    ordinary, negative = tiny(by_outcome), tiny(by_outcome, option=SHUFFLED)
    run(experiment_of(ordinary, negative))
    assert negative.summary().startswith("with reward-to-go shuffled over episodes, 6 steps")
    one, two = (json.loads((s.path / "headline.json").read_text()) for s in (ordinary, negative))
    assert one.keys() == two.keys() and one != two
    # The same as an ordinary model on demonstrations that were shuffled beforehand.

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Beforehand(Recorded):
        def load(self):
            return shuffled(super().load(), negative.seed)

    dataclasses.replace(ordinary, dataset=Beforehand()).run(tmp_path)
    weights = "weights.safetensors"
    assert (tmp_path / weights).read_bytes() == (negative.path / weights).read_bytes()
