"""An agent of Stable-Baselines3 as the teacher."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from dtx.agent.agent import AgentStage
from dtx.agent.sb3.observation import Observation
from dtx.env.environment import Environment
from dtx.errors import UserError
from dtx.exchange.published.source import check_digest, verified
from dtx.report import Report, read_metrics
from dtx.stage import RUNTIME

if TYPE_CHECKING:
    from dtx.agent.sb3.policy import SB3Agent


@dataclass(frozen=True, kw_only=True)
class SB3(AgentStage):
    """Map the file to an agent that acts; conf/agent/sb3.yaml explains each field."""

    headline: ClassVar[tuple[str, ...]] = ("sb3/parameters", "sb3/memory_size")

    file: Path | None = field(metadata=RUNTIME)
    digest: str
    env: Environment
    observation: Observation
    unsafe_pickle: bool = field(metadata=RUNTIME)

    @property
    def environment(self) -> Environment:
        """Where the agent learned to act."""
        return self.env

    @property
    def may_unpickle(self) -> bool:
        """As the field ``unsafe_pickle`` says."""
        return self.unsafe_pickle

    def check(self) -> Iterator[tuple[str, str]]:
        """The form of the digest."""
        yield from check_digest(self.digest)

    def run(self, out: Path) -> None:
        """Write weights and a description of the policy; a copy of the file if it has to be unpickled."""
        from dtx.agent.sb3.policy import convert

        file = verified(self.file, self.digest, self.label)
        agent = convert(file, out, self.observation, self.unsafe_pickle)
        if agent.n_actions != self.env.n_actions:
            raise UserError(
                f"{file}: its policy has {agent.n_actions} actions, but env={self.env.id} has "
                f"{self.env.n_actions}; choose the environment that it was trained in"
            )
        Report(out).headline(
            {
                "sb3/recurrent": float(agent.recurrent),
                "sb3/memory_size": agent.memory_size,
                "sb3/n_actions": agent.n_actions,
                "sb3/parameters": sum(p.numel() for p in agent.policy.parameters()),
            }
        )

    def summary(self) -> str:
        """What kind of policy it is."""
        n = {k.removeprefix("sb3/"): int(v or 0) for k, v in read_metrics(self.path).items()}
        kind = (
            f"RecurrentPPO with {n['memory_size']} numbers of memory" if n["recurrent"] else "PPO"
        )
        return (
            f"Stable-Baselines3 {kind}, reads {self.observation.value}, {n['n_actions']} actions; "
            f"{n['parameters']:,} parameters"
        )

    def load(self) -> SB3Agent:
        """The agent, with the policy's own logits and values."""
        from dtx.agent.sb3.policy import load

        return load(self.path, self.unsafe_pickle)
