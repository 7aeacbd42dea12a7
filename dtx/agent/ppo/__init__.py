"""Recurrent PPO: an agent that learns a task from reward and then gives the demonstrations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dtx.agent.agent import AgentStage
from dtx.agent.ppo.spec import PPOSpec
from dtx.env.environment import Environment
from dtx.report import read_metrics

if TYPE_CHECKING:
    from dtx.agent.network import ActorCritic


@dataclass(frozen=True, kw_only=True)
class PPO(PPOSpec, AgentStage):
    """Train a recurrent actor-critic by proximal policy optimisation.

    Backpropagation runs through each rollout segment and stops at its start; memory is reset where an
    episode begins; a step limit is bootstrapped from the value of the final observation.
    Source: Schulman et al. 2017, https://arxiv.org/abs/1707.06347. conf/agent/ppo.yaml explains the fields.
    """

    @property
    def environment(self) -> Environment:
        """Where the agent learned to act."""
        return self.env

    def check(self) -> Iterator[tuple[str, str]]:
        """Numbers that must fit each other."""
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

    def run(self, out: Path) -> None:
        """Train, measure on fresh episodes, write ``weights.safetensors`` and ``model.json``."""
        from dtx.agent.ppo.train import train

        train(self, out, self.name)

    def summary(self) -> str:
        """Whether it solved the task, and after how much."""
        n = read_metrics(self.path)
        solved, frames = n["agent/solved"], n["agent/frames_to_solved"]
        result = (
            f"{'solved' if solved else 'NOT solved'}: success {n['agent/success']:.3f} on "
            f"{n['agent/fresh_episodes']:.0f} fresh episodes, {n['agent/episode_length']:.1f} steps long"
        )
        when = f"; first solved after {frames:,.0f} frames" if frames else ""
        return f"{result}{when}; attempts: {n['agent/attempts']:.0f}"

    def load(self) -> ActorCritic:
        """The trained agent, in evaluation mode.

        Raises:
            dtx.errors.UserError: The stage has not run, or its files are damaged.
        """
        from dtx.agent.network import load

        return load(self.path)
