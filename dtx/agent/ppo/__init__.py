"""Recurrent PPO: an agent that learns a task from reward and then gives the demonstrations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dtx.agent.agent import AgentStage
from dtx.agent.architecture import Encoder, Recurrence
from dtx.env.environment import Environment
from dtx.report import read_metrics

if TYPE_CHECKING:
    from dtx.agent.network import ActorCritic


@dataclass(frozen=True, kw_only=True)
class PPO(AgentStage):
    """Train a recurrent actor-critic by proximal policy optimisation.

    Backpropagation runs through each rollout segment and stops at its start; memory is reset where an
    episode begins; a step limit is bootstrapped from the value of the final observation.
    Source: Schulman et al. 2017, https://arxiv.org/abs/1707.06347. conf/agent/ppo.yaml explains the fields.
    """

    env: Environment
    seed: int
    encoder: Encoder
    memory: Recurrence
    width: int
    frames: int
    environments: int
    rollout_steps: int
    epochs: int
    minibatches: int
    lr: float
    lr_end: float
    clip: float
    gamma: float
    gae_lambda: float
    entropy: float
    entropy_end: float
    value_weight: float
    gradient_norm: float
    target_kl: float
    solved_at: float
    stop_when_solved: bool
    evaluate_every: int
    evaluation_episodes: int
    attempts: int
    give_up_at: int
    checkpoint_every: int

    @property
    def environment(self) -> Environment:
        """Where the agent learned to act."""
        return self.env

    def check(self) -> Iterator[tuple[str, str]]:
        """Yield (field, what is wrong and what to do)."""
        positive = (
            "width frames environments rollout_steps epochs minibatches lr clip gradient_norm "
            "target_kl evaluate_every evaluation_episodes attempts checkpoint_every"
        )
        for name in positive.split():
            if getattr(self, name) <= 0:
                yield name, f"{getattr(self, name)} is too small; give a number above 0"
        for name in ("seed", "lr_end", "entropy", "entropy_end", "value_weight", "give_up_at"):
            if getattr(self, name) < 0:
                yield name, f"{getattr(self, name)} is negative; give 0 or more"
        for name in ("gamma", "gae_lambda", "solved_at"):
            if not 0 <= getattr(self, name) <= 1:
                yield name, f"{getattr(self, name)} is outside 0..1"
        if self.minibatches > self.environments:
            yield (
                "minibatches",
                f"{self.minibatches} exceed the {self.environments} environments; a minibatch takes "
                "whole sequences, so give fewer minibatches or more environments",
            )
        if 0 < self.frames < self.frames_an_iteration:
            yield (
                "frames",
                f"{self.frames} is less than one iteration of environments * rollout_steps = "
                f"{self.frames_an_iteration} frames",
            )
        if self.attempts > 1 and not 0 < self.give_up_at < self.frames:
            yield (
                "give_up_at",
                f"{self.give_up_at} must lie between 0 and frames = {self.frames}, or set attempts to 1",
            )

    @property
    def frames_an_iteration(self) -> int:
        """Frames between two updates of the policy."""
        return self.environments * self.rollout_steps

    @property
    def iterations(self) -> int:
        """Iterations of an attempt that goes to its end."""
        return max(1, self.frames // self.frames_an_iteration)

    def run(self, out: Path) -> None:
        """Train, measure on fresh episodes, write ``weights.safetensors`` and ``model.json``."""
        from dtx.agent.ppo.train import train

        train(self, out)

    def summary(self) -> str:
        """Whether it solved the task, and after how much."""
        n = read_metrics(self.path)
        solved, frames = n["agent/solved"], n["agent/frames_to_solved"]
        said = (
            f"{'solved' if solved else 'NOT solved'}: success {n['agent/success']:.3f} on "
            f"{n['agent/fresh_episodes']:.0f} fresh episodes, {n['agent/episode_length']:.1f} steps long"
        )
        when = f"; first solved after {frames:,.0f} frames" if frames else ""
        return f"{said}{when}; attempts: {n['agent/attempts']:.0f}"

    def load(self) -> ActorCritic:
        """The trained agent, in evaluation mode.

        Raises:
            dtx.errors.UserError: The stage has not run, or its files are damaged.
        """
        from dtx.agent.network import load

        return load(self.path)
