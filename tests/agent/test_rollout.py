"""Collecting: bootstrapping, memory at episode ends, advantages and outcomes."""

import numpy as np
import pytest
import torch

from dtx.agent.architecture import Encoder, Recurrence
from dtx.agent.network import ActorCritic, AgentArchitecture
from dtx.agent.ppo.module import Frames
from dtx.agent.rollout import Collector, Rollout, advantages, measure
from dtx.agent.sequences import cut
from dtx.env.memory import Memory
from dtx.env.vector import Backend, Step, VectorEnv

KINDS = [(e, m) for e in Encoder for m in Recurrence]


def agent_of(encoder: Encoder, memory: Recurrence, seed: int = 0) -> ActorCritic:
    agent = ActorCritic(
        AgentArchitecture(encoder=encoder, memory=memory, width=16, n_actions=7), seed
    )
    with torch.no_grad():  # larger heads, so that mistakes show
        agent.policy.weight.normal_(generator=torch.Generator().manual_seed(1))
        agent.policy.bias.copy_(torch.tensor([2.0, 2, 4, 0, 0, 0, 0]))  # and forward, to the ends
    return agent


class Recorder:
    """Passes on to an environment and keeps its answers."""

    def __init__(self, env: VectorEnv):
        self.env, self.n, self.steps = env, env.n, list[Step]()
        self.reset = env.reset

    def step(self, actions: np.ndarray) -> Step:
        self.steps.append(self.env.step(actions))
        return self.steps[-1]


def collected(agent: ActorCritic, times: int = 2) -> tuple[list[Rollout], Recorder]:
    env = Recorder(Memory(size=7, max_steps=8, backend=Backend.auto).vector(10, 0))
    collector, generator = Collector(env, agent), torch.Generator().manual_seed(0)
    return [collector.collect(15, generator) for _ in range(times)], env


@pytest.mark.parametrize(("encoder", "memory"), KINDS)
def test_each_step_bootstraps_from_the_right_value(encoder: Encoder, memory: Recurrence) -> None:
    """Against playing every environment again on its own, frame by frame."""
    agent = agent_of(encoder, memory)
    rollouts, env = collected(agent)
    joined = {
        name: np.concatenate([getattr(r, name) for r in rollouts])
        for name in ("observations", "values", "next_values", "begins", "ended")
    }
    kinds = {"terminated": 0, "truncated": 0}
    with torch.no_grad():
        for i in range(env.n):
            state = agent.initial_memory(1)
            for t, step in enumerate(env.steps):
                assert joined["begins"][t, i] == (t == 0 or joined["ended"][t - 1, i])
                _, value, after = agent.step(joined["observations"][t, i : i + 1], state)
                assert joined["values"][t, i] == pytest.approx(float(value), abs=1e-5)
                last = step.final_observations[i : i + 1]
                beyond = 0.0 if step.terminated[i] else float(agent.step(last, after)[1])
                assert joined["next_values"][t, i] == pytest.approx(beyond, abs=1e-5)
                kinds["terminated"] += step.terminated[i]
                kinds["truncated"] += step.truncated[i]
                state = agent.initial_memory(1) if step.ended[i] else after
    assert min(kinds.values()) > 0
    assert len(rollouts[0].lengths) == rollouts[0].ended.sum()
    assert rollouts[0].lengths.max() <= 8


@pytest.mark.parametrize(("encoder", "memory"), KINDS)
def test_learning_sees_what_playing_saw(encoder: Encoder, memory: Recurrence) -> None:
    """Packed pieces, with memory reset or carried, against the steps of the rollout."""
    agent = agent_of(encoder, memory)
    rollout = collected(agent)[0][1]  # the second: memory is carried into it
    data = Frames(rollout, 0.99, 0.95)
    pieces = cut(rollout.begins, data.index, np.array([7, 2, 3, 9]))
    assert pieces.carries.any()
    assert not pieces.carries.all()
    first = torch.where(torch.from_numpy(pieces.carries)[:, None], rollout.memory[pieces.env], 0.0)
    logits, values = agent.pieces(
        data.distinct,
        torch.from_numpy(pieces.observation_p),
        torch.from_numpy(pieces.batch_sizes),
        first,
    )
    log_probs = torch.log_softmax(logits, 1)[pieces.place_f, data.actions[pieces.frame_f]]
    torch.testing.assert_close(log_probs, data.log_probs[pieces.frame_f], atol=1e-5, rtol=0)
    torch.testing.assert_close(
        values[pieces.place_f], data.values[pieces.frame_f], atol=1e-5, rtol=0
    )


def test_advantages_are_the_discounted_sum_of_surprises_to_the_episodes_end() -> None:
    rng = np.random.default_rng(0)
    steps, n, gamma, lam = 20, 5, 0.9, 0.8
    ended = rng.random((steps, n)) < 0.2
    terminated = ended & (rng.random((steps, n)) < 0.5)
    values, rewards = rng.normal(size=(2, steps, n)).astype(np.float32)
    next_values = np.where(terminated, 0, rng.normal(size=(steps, n))).astype(np.float32)
    nothing = np.zeros(0)
    rollout = Rollout(
        observations=nothing, actions=nothing, log_probs=nothing, values=values, rewards=rewards,
        next_values=next_values, begins=nothing, ended=ended, memory=torch.zeros(0),
        lengths=nothing, returns=nothing,
    )  # fmt: skip
    found = advantages(rollout, gamma, lam)
    for t in range(steps):
        for i in range(n):
            expected, weight = 0.0, 1.0
            for later in range(t, steps):
                surprise = rewards[later, i] + gamma * next_values[later, i] - values[later, i]
                expected += weight * surprise
                weight *= gamma * lam
                if ended[later, i]:
                    break
            assert found[t, i] == pytest.approx(expected, abs=1e-4)


class Scripted:
    """Goes forward to the junction, then always turns left: right in half of the layouts."""

    def initial_memory(self, n: int) -> torch.Tensor:
        return torch.zeros(n, 1)

    def step(self, observations: np.ndarray, memory: torch.Tensor) -> tuple:
        actions = torch.where(memory[:, 0] == 4, 0, 2)
        logits = torch.nn.functional.one_hot(actions, 7) * 100.0
        return logits, torch.zeros(len(logits)), memory + 1


def test_measuring_counts_each_kind_of_end() -> None:
    env = Memory(size=7, max_steps=50, backend=Backend.auto)
    found = measure(Scripted(), env.vector(50, 0), 400, 1.0, torch.Generator().manual_seed(0))
    assert found.episodes == 400
    assert found.success == pytest.approx(0.5, abs=0.1)
    assert found.success + found.wrong == pytest.approx(1)
    assert found.length == 6
    assert found.mean_return == pytest.approx(0.892 * found.success)
    short = Memory(size=7, max_steps=6, backend=Backend.auto).vector(50, 0)
    hot = measure(Scripted(), short, 90, 1e6, torch.Generator().manual_seed(0))
    assert hot.episodes == 100  # rounded up: every environment plays as many
    assert hot.truncated > 0.9
