"""Load an agent from the folder of an artefact or of an export, whichever stage wrote it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dtx.errors import UserError
from dtx.files import read_json

if TYPE_CHECKING:
    from dtx.agent.network import ActorCritic
    from dtx.agent.sb3.policy import SB3Agent
    from dtx.exchange.published.convert_agent import PublishedAgent


def load_agent(
    folder: Path, unsafe_pickle: bool = False
) -> ActorCritic | SB3Agent | PublishedAgent:
    """The agent, in evaluation mode.

    Args:
        folder: Of an artefact, or an exported one.
        unsafe_pickle: Unpickle a policy of Stable-Baselines3 with classes of its own.

    Raises:
        UserError: A file is missing or damaged.
    """
    from dtx.agent import network
    from dtx.agent.sb3 import policy as sb3_policy
    from dtx.exchange.published import convert_agent as published

    path = folder / network.MODEL
    if (folder / sb3_policy.COPY).is_file():
        return sb3_policy.load(folder, unsafe_pickle)
    if not path.is_file():  # a published agent's weights say all
        return published.load(folder)
    try:
        described = read_json(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{folder}: not a readable agent ({error})") from error
    if isinstance(described, dict) and "library" in described:
        return sb3_policy.load(folder, unsafe_pickle)
    return network.load(folder)


def sizes(agent: ActorCritic | SB3Agent | PublishedAgent) -> dict[str, float]:
    """Headline numbers of an agent: whether it is recurrent, sizes of memory and actions, parameters."""
    import torch

    memory = agent.initial_memory(1)
    with torch.no_grad():
        logits, *_ = agent.step(torch.zeros(1, 7, 7, 3, dtype=torch.uint8), memory)
    return {
        "recurrent": float(memory.shape[1] > 0),
        "memory_size": memory.shape[1],
        "n_actions": logits.shape[1],
        "parameters": sum(t.numel() for t in [*agent.parameters(), *agent.buffers()]),
    }
