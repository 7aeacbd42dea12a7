"""Recurrent PPO: an agent that learns a task from reward and then gives the demonstrations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from dtx.agent.agent import AgentStage
from dtx.agent.ppo.spec import PPOSpec
from dtx.env.encoding import SIZE as OBSERVATION
from dtx.env.environment import Environment
from dtx.report import read_metrics
from dtx.resources import OPERATIONS, Resources

if TYPE_CHECKING:
    from dtx.agent.network import ActorCritic


@dataclass(frozen=True, kw_only=True)
class PPO(PPOSpec, AgentStage):
    """Train a recurrent actor-critic by proximal policy optimisation.

    Backpropagation runs through each rollout segment and stops at its start; memory is reset where an
    episode begins; a step limit is bootstrapped from the value of the final observation.
    Source: Schulman et al. 2017, https://arxiv.org/abs/1707.06347. conf/agent/ppo.yaml explains the fields.
    """

    headline: ClassVar[tuple[str, ...]] = (
        "agent/success",
        "agent/return",
        "agent/t5_success",
        "agent/frames_to_solved",
    )

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

    def resources(self) -> Resources:
        """Weights with Adam's, a rollout of all environments, and the frames of all attempts."""
        width, frames = self.width, self.frames_an_iteration
        weights = 4.0 * (8 * width**2 + OBSERVATION * width)
        # Of a frame: what is seen, and in the update its one-hot and every activation with its gradient.
        update = frames / self.minibatches * 4 * (OBSERVATION + 12 * width)
        a_frame = 2 * (8 * width**2 + OBSERVATION * width) / OPERATIONS
        all_frames = self.frames + (self.attempts - 1) * self.give_up_at
        # Further attempts are rare: one of 20 agents of the study needed a second.
        likely = self.frames + (all_frames - self.frames) / 10
        evaluations = likely / frames / self.evaluate_every + 1
        evaluated = evaluations * self.evaluation_episodes * self.env.horizon
        return Resources(
            memory={
                "width": 4 * weights,
                "environments, rollout_steps, width": frames * 300.0 + update,
                "environments": self.environments * 20e3,
                "evaluation_episodes": self.evaluation_episodes * (20e3 + 100 * width),
            },
            disk={"width": 5 * weights, "frames": 2e3 * all_frames / frames},
            seconds=likely * (4e-5 + (1 + 3 * self.epochs) * a_frame)
            + evaluated * (1e-5 + a_frame),
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
