"""What changing steps left does to the policy: by reward-to-go, by the clock, or by another run's stream.

The policy is read as a log-odds: of the routine's next action against all others, in nats.
Shape suffixes: k pairs, n token, d model, a action, p points of the residual stream (before each block, and
after the last).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from dtx.analysis.countdown.clock import place_tells_time, reset_clock, shifted
from dtx.analysis.countdown.spec import (
    ASKED,
    CLOCK,
    DENOISE,
    NOISE,
    PLACE,
    RECEIVER_STEPS,
    SAME_STEPS,
    TIME,
    WHOLE_CLOCK,
)
from dtx.analysis.countdown.states import Windows
from dtx.dt.forward import blocks_of
from dtx.dt.incremental import CHUNK, through
from dtx.dt.model import DecisionTransformerModel

BASE = "as played"


@dataclass(frozen=True)
class Run:
    """One way to run every pair's window.

    Attributes:
        odds: (k,) float64. stream: (p, k, d) at the last state.
    """

    odds: np.ndarray
    stream: Tensor


def log_odds(logits_ka: Tensor, action_k: Tensor) -> np.ndarray:
    """(k,) of an action against all others."""
    logits_ka = logits_ka.double()
    own_k1 = logits_ka.gather(1, action_k[:, None])
    others_ka = logits_ka.scatter(1, action_k[:, None], -torch.inf)
    return (own_k1[:, 0] - others_ka.logsumexp(1)).numpy()


class Runs:
    """A model on pairs; see :func:`dtx.analysis.countdown.states.pairs`.

    Args:
        model: In evaluation mode.
        windows: Of the episodes that the pairs are in.
        pairs: One row a state and shift.
        horizon: Of the environment.
    """

    def __init__(
        self,
        model: DecisionTransformerModel,
        windows: Windows,
        pairs: pd.DataFrame,
        horizon: int,
    ):
        self.model, self.windows, self.pairs, self.horizon = model, windows, pairs, horizon
        self.places = place_tells_time(model.cfg, horizon)
        self._twins: dict[int, DecisionTransformerModel] = {}
        self.action_k = torch.tensor(pairs.action.to_numpy())
        self.later_k = torch.tensor(-pairs["shift"].to_numpy())  # less steps left: later
        own = pairs.episode.to_numpy(), pairs.step.to_numpy()
        self._asked = {BASE: (*own, pairs.target), ASKED: (*own, pairs.asked)}
        at = pairs.donor_episode.fillna(0), pairs.donor_step.fillna(0)
        donor = [column.to_numpy(np.int64) for column in at]
        for name, column in ((SAME_STEPS, "donor_same"), (RECEIVER_STEPS, "donor_receiver")):
            self._asked[name] = (*donor, pairs[column].fillna(pairs.target))

    @torch.inference_mode()
    def run(self, name: str) -> Run:
        """Run the windows of all pairs in one of the ways that ``spec`` and this module name."""
        k, points = len(self.pairs), self.model.cfg.n_layers + 1
        odds, stream = np.empty(k), torch.empty(points, k, self.model.cfg.d_model)
        for here, resid_knd in self._embedded(name):
            states = [resid_knd[:, -1]]
            for block in blocks_of(self.model):
                resid_knd = block(resid_knd)
                states.append(resid_knd[:, -1])
            stream[:, here] = torch.stack(states)
            odds[here.numpy()] = log_odds(self.model.read(states[-1]), self.action_k[here])
        return Run(odds, stream)

    @torch.inference_mode()
    def patched(self, name: str, streams: dict[str, Run]) -> dict[str, np.ndarray]:
        """Log-odds (p, k) of runs whose last state's stream is, before each block in turn, another's."""
        blocks = blocks_of(self.model)
        found = {source: np.empty((len(blocks) + 1, len(self.pairs))) for source in streams}
        for here, resid_knd in self._embedded(name):
            kept, n = [], resid_knd.shape[1]
            for block in blocks:
                x_knd = block.ln1(resid_knd)
                parts = [block.attn.project(x_knd, part).transpose(1, 2) for part in "KV"]
                kept.append(torch.stack(parts))
                resid_knd = block(resid_knd)
            for source, run in streams.items():
                for point in range(len(blocks) + 1):
                    x_k1d = run.stream[point, here][:, None]
                    for layer in range(point, len(blocks)):  # only the last token is another one
                        x_k1d = through(blocks[layer], x_k1d, kept[layer], n, last=True)
                    logits_ka = self.model.read(x_k1d[:, 0])
                    odds = log_odds(logits_ka, self.action_k[here])
                    found[source][point, here.numpy()] = odds
        return found

    def _embedded(self, name: str):
        """Yield (pairs, embedding (k, n, d)) in parts of one length."""
        told = name if name in self._asked else BASE
        for group, context in self.windows.ending_at(*map(np.asarray, self._asked[told])):
            later_k = self.later_k[group]
            for part, choice in self._parts(name, later_k):
                here, some = torch.from_numpy(group)[part], context[part]
                if name == WHOLE_CLOCK:
                    yield here, self._reset(choice).residual(some, 0)
                elif told == name:
                    yield here, self.model.residual(some, 0)
                else:
                    place = name in (PLACE, CLOCK) and self.places
                    yield (
                        here,
                        shifted(
                            self.model, some, later_k[part], time=name in (TIME, CLOCK), place=place
                        ),
                    )

    def _reset(self, by: int) -> DecisionTransformerModel:
        if by not in self._twins:
            self._twins[by] = reset_clock(self.model, by, self.horizon)
        return self._twins[by]

    def _parts(self, name: str, later_k: Tensor):
        """Yield (indices of a group (k,), steps by which all of them are later)."""
        values = later_k.unique().tolist() if name == WHOLE_CLOCK else [None]
        for value in values:
            of = torch.arange(len(later_k)) if value is None else (later_k == value).nonzero()[:, 0]
            for part in of.split(CHUNK):
                yield part, value


def moved(runs: Runs, ways: dict[str, Run]) -> pd.DataFrame:
    """What each way of changing steps left does, one row a pair and way: the pair's columns, way, change."""
    base = ways[BASE].odds
    parts = [
        runs.pairs.assign(way=name, change=run.odds - base)
        for name, run in ways.items()
        if name != BASE
    ]
    return pd.concat(parts, ignore_index=True)


def restored(runs: Runs, ways: dict[str, Run]) -> pd.DataFrame:
    """Patch the last state's stream between runs that differ in steps left, in both directions.

    Args:
        runs: Of the model.
        ways: Of every name: ``BASE``, ``ASKED``, ``WHOLE_CLOCK``, both donors.

    Returns:
        One row a pair, point, source and receiver: episode, target, shift, point, source, direction, moved
        (by the patch) and gap (of the two runs), in nats.
    """
    rows = []
    # A donor has as many steps left as one of the two runs: which is the receiver changes with the direction.
    plan = {
        (BASE, ASKED): {ASKED: ASKED, SAME_STEPS: SAME_STEPS, RECEIVER_STEPS: RECEIVER_STEPS},
        (ASKED, BASE): {ASKED: BASE, SAME_STEPS: RECEIVER_STEPS, RECEIVER_STEPS: SAME_STEPS},
        (BASE, WHOLE_CLOCK): {WHOLE_CLOCK: WHOLE_CLOCK},
        (WHOLE_CLOCK, BASE): {WHOLE_CLOCK: BASE},
    }
    no_donor = runs.pairs.donor_same.isna().to_numpy()
    for (receiver, giver), sources in plan.items():
        own, gap = ways[receiver].odds, ways[giver].odds - ways[receiver].odds
        found = runs.patched(receiver, {name: ways[of] for name, of in sources.items()})
        # The run that has fewer steps left is the clean one: the action that walks on is its own.
        fewer = (runs.pairs["shift"] > 0) if receiver == BASE else (runs.pairs["shift"] < 0)
        direction = np.where(fewer, NOISE, DENOISE)
        for name, odds_pk in found.items():
            for point, odds in enumerate(odds_pk):
                donor = name in (SAME_STEPS, RECEIVER_STEPS)
                rows.append(pd.DataFrame({
                    "episode": runs.pairs.episode, "target": runs.pairs.target,
                    "shift": runs.pairs["shift"], "point": point, "source": name,
                    "direction": direction, "moved": np.where(donor & no_donor, np.nan, odds - own),
                    "gap": gap,
                }))  # fmt: skip
    return pd.concat(rows, ignore_index=True)
