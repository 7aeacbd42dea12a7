"""What agents that act have seen and done so far, as contexts of a Decision Transformer."""

from __future__ import annotations

import numpy as np
import torch

from dtx.dt.context import Context
from dtx.dt.model_config import ModelConfig
from dtx.dt.windows import observation_table
from dtx.env.encoding import distinct


class History:
    """What n agents have seen so far, as the contexts that the model was trained on.

    Args:
        cfg: Decides padding and the longest context.
        n: Environments.
        horizon: Steps that an episode can last.
    """

    def __init__(self, cfg: ModelConfig, n: int, horizon: int):
        self.cfg, self.horizon = cfg, horizon
        self.step = 0
        self.rows = np.zeros((0, 7, 7, 3), np.uint8)  # distinct observations so far
        self._known: dict[bytes, int] = {}
        self.observation = np.zeros((n, horizon), np.int64)
        self.action = np.full((n, horizon), self.cfg.n_actions, np.int64)
        self.reward_to_go = np.zeros((n, horizon), np.float32)

    def see(self, observations: np.ndarray, reward_to_go: np.ndarray) -> None:
        """Add a step: observations (n, 7, 7, 3) uint8 and reward-to-go (n,)."""
        rows, index = distinct(observations)
        ids = np.array([self._known.setdefault(r.tobytes(), len(self._known)) for r in rows])
        if len(self._known) > len(self.rows):
            self.rows = np.concatenate([self.rows, rows[ids >= len(self.rows)]])
        self.observation[:, self.step] = ids[index]
        self.reward_to_go[:, self.step] = reward_to_go
        self.step += 1

    def act(self, actions: np.ndarray) -> None:
        """Add the actions (n,) taken at the last step."""
        self.action[:, self.step - 1] = actions

    def context(self, who: np.ndarray, last: int | None = None) -> Context:
        """Contexts of the environments ``who`` (indices) at the last step.

        Args:
            who: Which.
            last: Only so many timesteps, where padding is on the right; None: as many as the model reads.
        """
        begin = max(0, self.step - min(last or self.cfg.n_steps, self.cfg.n_steps))
        span = slice(begin, self.step)
        observation, action = self.observation[who, span], self.action[who, span]
        reward_to_go = self.reward_to_go[who, span]
        timestep = np.tile(np.arange(begin, self.step), (len(who), 1))
        missing = self.cfg.n_steps - (self.step - begin) if self.cfg.left_padding else 0
        if missing:
            width = ((0, 0), (missing, 0))
            observation = np.pad(observation, width, constant_values=len(self.rows))
            action = np.pad(action, width, constant_values=self.cfg.n_actions)
            reward_to_go = np.pad(reward_to_go, width, mode="edge")
            timestep = np.pad(timestep, width)
        tensor = torch.from_numpy
        return Context.of(
            layout=self.cfg.layout,
            observation=tensor(observation),
            table=observation_table(self.rows),
            action=tensor(action),
            reward_to_go=tensor(reward_to_go),
            timestep=tensor(np.ascontiguousarray(timestep)),
        )

    def distinct_contexts(self, who: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Indices into ``who`` of distinct contexts, and for each of ``who`` which of those it has."""
        begin = max(0, self.step - self.cfg.n_steps)
        columns = [
            self.observation[who, begin : self.step],
            self.action[who, begin : self.step - 1],
        ]
        if self.cfg.reward_to_go:
            columns.append(self.reward_to_go[who, begin : self.step].view(np.uint32))
        rows = np.ascontiguousarray(np.concatenate(columns, 1).astype(np.int32))
        whole = rows.view(np.dtype((np.void, rows.shape[1] * rows.itemsize))).ravel()
        _, first, index = np.unique(whole, return_index=True, return_inverse=True)
        return first, index
