"""Pairs as a model reads them: clean and corrupt windows of the same shape, and what differs.

Letters: p pairs of a batch, n tokens of a window, t states of a run, r runs, k roles.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from dtx.dt.context import Context
from dtx.dt.history import History
from dtx.dt.tokens import ACTION, REWARD_TO_GO, STATE
from dtx.errors import UserError
from dtx.files import read_arrays, read_json, read_table

if TYPE_CHECKING:
    from dtx.dt.model import DecisionTransformerModel, ModelConfig


@dataclass(frozen=True)
class PairBatch:
    """Pairs whose windows have the same shape.

    Attributes:
        table: p rows of :attr:`PairSet.table`, in the order of all that follows.
        clean: p windows. corrupt: p windows with the same table of observations.
        changed: (p, n) bool, tokens whose content differs between the two.
        positive: (p,) int64 and negative: (p,) int64, actions whose logits at the last state are compared.
        control_of: (p,) int64, for a donor the place in this batch of the pair that it is a control of, whose
            clean and corrupt logits its effect is measured against; -1 elsewhere.
        roles: For each role (p, n) bool: state tokens of the clean run that show it.
        names: n names of tokens: ``R1 S1 A1 ... S9``.
    """

    table: pd.DataFrame
    clean: Context
    corrupt: Context
    changed: Tensor
    positive: Tensor
    negative: Tensor
    control_of: Tensor
    roles: dict[str, Tensor]
    names: list[str]

    def __len__(self) -> int:
        return len(self.table)

    def kind(self, name: str) -> np.ndarray:
        """(p,) bool: which are ``edit``, ``null``, ``donor_clean`` or ``donor_corrupt``."""
        return np.array(self.table["kind"] == name)

    def where(self, chosen: np.ndarray) -> PairBatch:
        """Some of the pairs; ``chosen`` is a mask (p,) bool. A donor loses a pair that is left out."""
        rows = np.flatnonzero(chosen)
        place = np.full(len(self) + 1, -1)
        place[rows] = np.arange(len(rows))
        index = torch.from_numpy(rows)
        return dataclasses.replace(
            self,
            table=self.table.iloc[rows].reset_index(drop=True),
            clean=self.clean[index],
            corrupt=self.corrupt[index],
            changed=self.changed[index],
            positive=self.positive[index],
            negative=self.negative[index],
            control_of=torch.from_numpy(place)[self.control_of[index]],
            roles={role: there[index] for role, there in self.roles.items()},
        )

    def difference(self, logits: Tensor) -> Tensor:
        """LD (p,): of logits (p, a) at the last state."""
        return self.difference_of(logits, torch.arange(len(self)))

    def difference_of(self, logits: Tensor, pairs: Tensor) -> Tensor:
        """LD (b,): of logits (b, a) at the last state of pairs (b,)."""
        row = torch.arange(len(pairs))
        return logits[row, self.positive[pairs]] - logits[row, self.negative[pairs]]


@dataclass(frozen=True)
class PairSet:
    """The pairs of a stage.

    Attributes:
        table: One row a pair: ``pair``, ``edit``, ``kind`` (edit, null, donor_clean: its clean run is
            one in another world with the clean run's answer, donor_corrupt: with the corrupt run's),
            ``variant``, ``reward_to_go``, ``of`` (pair that a donor is a control of, else -1), ``edit_as``
            (which run a donor is like in what was edited: clean, corrupt, other), ``clean`` and ``corrupt``
            (rows of the runs), ``states``, ``ood``, ``changed`` (tokens, counted from the episode's start),
            ``clean_distance`` and ``corrupt_distance``: cells by which the least usual observation of a run
            differs from the nearest in training (missing without a dataset).
        refused: One row a pair that is not there: ``variant``, ``reward_to_go``, ``edit``, ``reason``.
        runs: ``observation`` (r, t, 7, 7, 3), ``action``, ``reward_to_go``, ``visible`` (r, t, k),
            ``states``.
        about: ``env``, ``roles``, ``edits``, ``positive``, ``negative``, ``min_ld_gap``, ``n_actions``.
        folder: Of the artefact.
    """

    table: pd.DataFrame
    refused: pd.DataFrame
    runs: dict[str, np.ndarray]
    about: dict[str, Any]
    folder: Path

    @staticmethod
    def read(folder: Path) -> PairSet:
        """Read an artefact."""
        tables = {n: read_table(folder / "tables" / f"{n}.parquet") for n in ("pairs", "refused")}
        runs = read_arrays(folder / "runs.npz")
        about = read_json(folder / "pairs.json")
        return PairSet(tables["pairs"], tables["refused"], runs, about, folder)

    @property
    def min_ld_gap(self) -> float:
        """rho is missing where the logit differences of clean and corrupt are closer than this."""
        return float(self.about["min_ld_gap"])

    def pictures(self) -> dict[int, np.ndarray]:
        """The world of each run at its start, (pixels, pixels, 3) uint8."""
        stored = read_arrays(self.folder / "pictures.npz")
        return {int(name.removeprefix("run_")): picture for name, picture in stored.items()}

    def batches(self, model: DecisionTransformerModel) -> list[PairBatch]:
        """All pairs as windows of a model; see :meth:`batches_of`."""
        return self.batches_of(model.cfg)

    def batches_of(self, cfg: ModelConfig) -> list[PairBatch]:
        """All pairs as windows of a model, padded as in its training; one batch for each number of states.

        Raises:
            UserError: The model knows fewer actions or timesteps than the pairs have.
        """
        most = max(self.about["positive"], self.about["negative"], int(self.runs["action"].max()))
        if cfg.n_actions <= most:
            raise UserError(
                f"pairs: action {most} occurs, but the model knows {cfg.n_actions} actions"
            )
        longest = int(self.table["states"].max())
        if longest > cfg.n_timesteps:
            raise UserError(
                f"pairs: a run has {longest} states, but the model knows {cfg.n_timesteps} timesteps"
            )
        groups = self.table.groupby("states", sort=True)
        return [self._batch(cfg, group.reset_index(drop=True)) for _, group in groups]

    def _batch(self, cfg: ModelConfig, table: pd.DataFrame) -> PairBatch:
        states, p = int(table["states"].iloc[0]), len(table)
        row = np.concatenate([table["clean"], table["corrupt"]])
        history = History(cfg, 2 * p, states)
        for t in range(states):
            history.see(self.runs["observation"][row, t], self.runs["reward_to_go"][row, t])
            if t < states - 1:
                history.act(self.runs["action"][row, t].astype(np.int64))
        context = history.context(np.arange(2 * p))
        clean, corrupt = context[:p], context[p:]
        changed = differing(clean, corrupt)
        layout, n = cfg.layout, changed.shape[1]
        steps = clean["timestep"].shape[1]
        real = min(states, steps)
        shown = self.runs["visible"][table["clean"].to_numpy(), states - real : states]
        roles = {}
        for k, role in enumerate(self.about["roles"]):
            there = np.zeros((p, n), bool)
            there[:, layout.states][:, steps - real :] = shown[:, :, k]
            roles[role] = torch.from_numpy(there)
        place = {int(pair): i for i, pair in enumerate(table["pair"])}
        return PairBatch(
            table=table,
            clean=clean,
            corrupt=corrupt,
            changed=changed,
            positive=torch.full((p,), self.about["positive"]),
            negative=torch.full((p,), self.about["negative"]),
            control_of=torch.tensor([place.get(int(of), -1) for of in table["of"]]),
            roles=roles,
            names=layout.names(n),
        )


def differing(clean: Context, corrupt: Context) -> Tensor:
    """Tokens (p, n) bool whose content differs; both contexts share their table of observations."""
    column = {STATE: "observation", ACTION: "action", REWARD_TO_GO: "reward_to_go"}
    names = [column[kind] for kind in clean.layout.kinds]
    differ_btk = torch.stack([torch.ne(clean[name], corrupt[name]) for name in names], 2)
    time = torch.ne(clean["timestep"], corrupt["timestep"]).unsqueeze(2)
    return (differ_btk | time).flatten(1)[:, : clean.shape[1]]
