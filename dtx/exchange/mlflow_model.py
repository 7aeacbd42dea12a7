"""A DT or an agent as MLflow's generic model: what a registered version loads and predicts with.

``mlflow.pyfunc.load_model("models:/memory_dt.dt/1").predict(inputs)`` gives action logits. MLflow calls
:func:`_load_pyfunc`; nothing is unpickled.

Letters: b windows or episodes, t timesteps, a actions.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from dtx.agent.agent_folder import load_agent
from dtx.dataset.episodes import Episodes
from dtx.dt.context import Context
from dtx.dt.model import DecisionTransformerModel, load
from dtx.env.encoding import VIEW, flat_one_hot
from dtx.exchange.lookup import kind_of

if TYPE_CHECKING:
    from dtx.agent.agent import Agent

_EXAMPLE_STEPS = 8


class DTPredictor:
    """Action logits of a Decision Transformer.

    Args:
        model: In evaluation mode.
    """

    def __init__(self, model: DecisionTransformerModel):
        self._model = model

    @torch.no_grad()
    def predict(self, inputs: Mapping[str, np.ndarray], params: Any = None) -> np.ndarray:
        """Logits (b, t, a) at each state of a window.

        Args:
            inputs: ``observation`` (b, t, 7, 7, 3) uint8, MiniGrid's index encoding; ``action`` (b, t) int64,
                of which the last is not read; ``reward_to_go`` (b, t) float32; ``timestep`` (b, t) int64.
            params: Not used.
        """
        observation = torch.as_tensor(np.asarray(inputs["observation"], dtype=np.uint8))
        windows, steps = observation.shape[:2]
        encoded = flat_one_hot(observation.flatten(0, 1)).reshape(windows, steps, -1)
        context = Context.of(
            layout=self._model.cfg.layout,
            one_hot=encoded,
            action=torch.as_tensor(np.asarray(inputs["action"], dtype=np.int64)),
            reward_to_go=torch.as_tensor(np.asarray(inputs["reward_to_go"], dtype=np.float32)),
            timestep=torch.as_tensor(np.asarray(inputs["timestep"], dtype=np.int64)),
        )
        return self._model(context).numpy()


class AgentPredictor:
    """Action logits of an agent that sees episodes from their start.

    Args:
        agent: In evaluation mode.
    """

    def __init__(self, agent: Agent):
        self._agent = agent

    @torch.no_grad()
    def predict(self, inputs: Mapping[str, np.ndarray], params: Any = None) -> np.ndarray:
        """Logits (b, t, a) at each step.

        Args:
            inputs: ``observation`` (b, t, 7, 7, 3) uint8, MiniGrid's index encoding.
            params: Not used.
        """
        observation = torch.as_tensor(np.asarray(inputs["observation"], dtype=np.uint8))
        memory, logits = self._agent.initial_memory(len(observation)), []
        for at in observation.unbind(1):
            now, _, memory = self._agent.step(at, memory)
            logits.append(now)
        return torch.stack(logits, 1).numpy()


def _load_pyfunc(path: str) -> DTPredictor | AgentPredictor:
    return predictor(Path(path))


def predictor(folder: Path) -> DTPredictor | AgentPredictor:
    """What predicts with the model in a folder."""
    if kind_of(folder) == "dt":
        return DTPredictor(load(folder))
    return AgentPredictor(load_agent(folder))


def example_of(folder: Path, demonstrations: Path | None) -> dict[str, np.ndarray]:
    """An input of the model in a folder: the first steps of a recorded episode, or zeros without episodes.

    Args:
        folder: Of a DT or an agent.
        demonstrations: Folder of episodes; None: there are none.
    """
    steps = _EXAMPLE_STEPS
    observation = np.zeros((steps, VIEW, VIEW, 3), np.uint8)
    action, to_go = np.zeros(steps, np.int64), np.zeros(steps, np.float32)
    if demonstrations is not None:
        episodes = Episodes.read(demonstrations)
        if len(episodes.start):
            steps = min(steps, int(episodes.length[0]))
            part = slice(int(episodes.start[0]), int(episodes.start[0]) + steps)
            observation = episodes.observations[episodes.observation[part]]
            action = episodes.action[part].astype(np.int64)
            to_go = episodes.reward_to_go[part].astype(np.float32)
    if kind_of(folder) != "dt":
        return {"observation": observation[None]}
    timestep = np.arange(len(action), dtype=np.int64)
    named = {"action": action, "reward_to_go": to_go, "timestep": timestep}
    return {"observation": observation[None], **{name: v[None] for name, v in named.items()}}
