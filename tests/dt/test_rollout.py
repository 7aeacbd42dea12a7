from collections.abc import Sequence

import numpy as np
import pytest
import torch

from dtx.dt import incremental
from dtx.dt import model as models
from dtx.dt import rollout as rollouts
from dtx.dt.context import Context
from dtx.dt.model import DecisionTransformerModel
from dtx.dt.windows import observation_table
from dtx.env.vector import Step
from tests.dt.toy import tiny


class Corridor:
    """Actions 0 and 1 move; the ends finish, one with reward; there is a reward on the way."""

    n_actions, horizon = 7, 12

    def __init__(self, starts: Sequence[int]):
        self.n, self.starts = len(starts), np.asarray(starts)
        rng = np.random.default_rng(0)
        self.looks = np.zeros((9, 7, 7, 3), np.uint8)
        self.looks[..., 0] = rng.integers(0, 11, (9, 7, 7))
        self.reset()

    def reset(self) -> np.ndarray:
        self.at, self.clock = self.starts.copy(), np.zeros(self.n, int)
        return self.looks[self.at]

    def step(self, actions: np.ndarray) -> Step:
        self.at = self.at + np.where(actions == 0, -1, np.where(actions == 1, 1, 0))
        self.clock += 1
        won, lost = self.at >= 8, self.at <= 0
        reward = np.where(won, 0.75, np.where(self.at == 6, 0.125, 0)).astype(np.float32)
        over = won | lost
        late = ~over & (self.clock >= self.horizon)
        final = self.looks[self.at]
        ended = over | late
        self.at, self.clock = np.where(ended, self.starts, self.at), np.where(ended, 0, self.clock)
        return Step(self.looks[self.at], reward, over, late, final)

    def close(self) -> None:
        pass


WAYS = {
    "right": (),
    "left": ("dt.windows.padding=left", "dt.initialisation.centre_state=false"),
    "clone": ("dt.reward_to_go=false",),
}


def network(*overrides: str) -> DecisionTransformerModel:
    model = DecisionTransformerModel(tiny(*overrides).model_config())
    models.initialise(model, None, 0.5, seed=4)
    with torch.no_grad():
        model.unembed.W_U.mul_(0.3)
        model.unembed.b_U[:2] += 1.5  # moves are likelier than waiting
    return model.eval()


def reference(model, start: int, target: float, uniform, temperature: float):
    """One environment, one context at a time, padded by hand."""
    cfg, env = model.cfg, Corridor([start])
    seen, acted, to_go, total = [env.reset()[0]], [], [np.float32(target)], np.float32(0)
    for step in range(env.horizon):
        begin = max(0, len(seen) - cfg.n_steps)
        states, actions, targets = seen[begin:], acted[begin:], to_go[begin:]
        times = list(range(begin, len(seen)))
        table = observation_table(np.stack(states))
        one_hot = table[:-1]
        if cfg.left_padding:
            missing = cfg.n_steps - len(states)
            one_hot = torch.cat([torch.zeros(missing, 980), one_hot])
            actions, targets = [7] * missing + actions, [targets[0]] * missing + targets
            times = [0] * missing + times
        logits = model(
            Context.of(
                one_hot=one_hot[None],
                action=torch.tensor([[*actions, 7]]),
                reward_to_go=torch.tensor(np.array([targets])),
                timestep=torch.tensor([times]),
            )
        )[0, -1]
        if uniform is None:
            action = int(logits.argmax())
        else:
            cumulative = (logits.double() / temperature).softmax(0).cumsum(0).numpy()
            action = min(int((cumulative <= uniform[step]).sum()), 6)
        result = env.step(np.array([action]))
        total += result.reward[0]
        if result.terminated[0] or result.truncated[0]:
            outcome = (0 if result.reward[0] > 0 else 1) if result.terminated[0] else 2
            return total, step + 1, outcome
        acted.append(action)
        seen.append(result.observations[0])
        to_go.append(to_go[-1] - result.reward[0])
    raise AssertionError("the horizon ends every episode")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("greedy", [False, True])
@torch.no_grad()
def test_batched_play_equals_one_environment_at_a_time(way, greedy):
    model = network(*WAYS[way])
    starts = [3, 4, 5, 4, 3, 5, 4, 4]
    targets = np.array([0, 0.5, 0.9, 0, 0.3, 0.3, 0.9, 0.9], np.float32)
    played = rollouts.rollout(
        model, Corridor(starts), targets, seed=5, temperature=1.5, greedy=greedy
    )
    uniform = rollouts.uniforms(5, np.arange(8), 12)
    assert len({*played.outcome.tolist()}) > 1 or greedy
    for i, start in enumerate(starts):
        expected = reference(model, start, targets[i], None if greedy else uniform[i], 1.5)
        assert (played.returns[i], played.length[i], played.outcome[i]) == expected


def test_an_episode_does_not_depend_on_its_batch():
    model = network()
    starts, targets = [3, 4, 5, 4], np.array([0.1, 0.2, 0.3, 0.4], np.float32)
    together = rollouts.rollout(model, Corridor(starts), targets, seed=1)
    for i in range(4):
        alone = rollouts.rollout(
            model, Corridor(starts[i : i + 1]), targets[i : i + 1], seed=1, episode=np.array([i])
        )
        assert alone.length[0] == together.length[i] and alone.outcome[0] == together.outcome[i]


def test_a_clone_plays_alike_at_every_target():
    model = network("dt.reward_to_go=false")
    one, other = (
        rollouts.rollout(model, Corridor([4] * 20), np.full(20, target), seed=2)
        for target in (0.0, 0.9)
    )
    assert (one.length == other.length).all() and (one.outcome == other.outcome).all()
    assert len(set(one.length.tolist())) > 1


def test_random_numbers_belong_to_the_episode():
    first = rollouts.uniforms(3, np.array([0, 1, 7]), 5)
    assert (first[2] == rollouts.uniforms(3, np.array([7]), 5)[0]).all()
    assert (first[0] != rollouts.uniforms(4, np.array([0]), 5)[0]).all()
    assert len(np.unique(first)) == 15


@pytest.mark.parametrize("way", ["right", "left"])
def test_equal_contexts_are_computed_once(way, monkeypatch):
    model = network(*WAYS[way])
    sizes = []  # of what is embedded: every context that is computed, new tokens or whole, is
    compute = type(model.embed).forward
    monkeypatch.setattr(
        type(model.embed), "forward", lambda self, c: sizes.append(len(c)) or compute(self, c)
    )
    rollouts.rollout(model, Corridor([4] * 30), np.zeros(30), seed=0)
    assert sizes[0] == 1 and sizes[1] <= 7 and max(sizes) <= 30 and len(sizes) <= 12


def test_targets_are_played_apart_where_memory_is_short(monkeypatch):
    class Place:
        horizon = 12

        def vector(self, n: int, seed: int) -> Corridor:
            return Corridor([3 + i % 3 for i in range(n)])

    model = network("dt.windows.context=12", "dt.model.n_ctx=35")
    together = rollouts.rollouts(model, Place(), [0.1, 0.5, 0.9], episodes=6, seed=3)
    monkeypatch.setattr(incremental, "MEMORY", 7 * incremental.bytes_of_row(model, 12))
    apart = rollouts.rollouts(model, Place(), [0.1, 0.5, 0.9], episodes=6, seed=3)
    for one, other in zip(together, apart, strict=True):
        assert (one.length == other.length).all() and (one.returns == other.returns).all()


class Forked:
    """Two layouts whose routine is one forward step; the right turn is 0 or 1."""

    layouts = ("a", "b")
    step = 1

    def routine(self, layout: int) -> list[int]:
        return [2, layout]

    def turns(self, layouts: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        return np.asarray(layouts), 1 - np.asarray(layouts)

    def here(self, observations: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    layout_of = make = here

    def vector(self, layouts: Sequence[int], seed: int) -> Corridor:
        return Corridor([3 + layout for layout in layouts])


@torch.no_grad()
def test_decision_probabilities_are_those_after_the_routine():
    model = network()
    found = rollouts.decision_probabilities(model, Forked(), [0.0, 0.9])
    assert found.shape == (2, 2, 7)
    np.testing.assert_allclose(found.sum(-1), 1)
    looks = Corridor([3]).looks
    for r, target in enumerate((0.0, 0.9)):
        for layout in range(2):
            table = observation_table(looks[[3 + layout, 3 + layout]])
            logits = model(
                Context.of(
                    one_hot=table[:-1][None],
                    action=torch.tensor([[2, 7]]),
                    reward_to_go=torch.tensor([[target, target]]),
                    timestep=torch.tensor([[0, 1]]),
                )
            )[0, -1]
            np.testing.assert_allclose(found[r, layout], logits.softmax(-1).numpy(), atol=1e-5)
