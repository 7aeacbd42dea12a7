"""Windows in which features are changed: the runs of declared pairs, and episodes of the demonstrations.

Shape suffixes: b window, n token, t timestep, r row of a forward pass, a action.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from dtx.analysis.core.patching_spec import EDIT
from dtx.analysis.core.windows import cut, sampler, sampling
from dtx.analysis.feature_effects.measure import Windows, divergence
from dtx.analysis.feature_effects.sites import Site, SiteRuns
from dtx.dataset.episodes import Episodes, Split
from dtx.dt.context import Context
from dtx.dt.model import DecisionTransformerModel
from dtx.dt.windows import Drawn
from dtx.pairs.pair_set import PairBatch

TOGETHER = 8
"""Windows of about one length that are run as one batch."""
CLEAN = "clean"


def of_episodes(
    episodes: Episodes, model: DecisionTransformerModel, split: Split, count: int, seed: int
) -> list[tuple[Context, Tensor]]:
    """First windows of so many random episodes of a split, each of another episode, the shortest first.

    Returns:
        Batches of windows with their real states (b, t).
    """
    numbers = np.flatnonzero(np.asarray(episodes.split) == split)
    numbers = np.random.default_rng([seed, int(split)]).permutation(numbers)[:count]
    length = np.minimum(np.asarray(episodes.length)[numbers], model.cfg.n_steps)
    numbers = numbers[np.argsort(length, kind="stable")]
    length = np.sort(length, kind="stable")
    draws = sampler(episodes, model.cfg, sampling(model.cfg), split)
    batches = []
    for begin in range(0, len(numbers), TOGETHER):
        some = slice(begin, begin + TOGETHER)
        row = np.asarray(episodes.start)[numbers[some]]
        context, _, real_bt = draws.context(Drawn(row, np.zeros_like(row), length[some]))
        if not model.cfg.left_padding:  # nothing behind the longest one is read
            steps = int(length[some].max())
            context, real_bt = cut(context, steps), real_bt[:, :steps]
        batches.append((context, real_bt))
    return batches


def tokens_real(context: Context, real_bt: Tensor) -> Tensor:
    """(b, n): tokens of real steps."""
    return real_bt[:, torch.from_numpy(context.layout.step_of(context.shape[1]))]


def episode_windows(
    model: DecisionTransformerModel, site: Site, batches: list[tuple[Context, Tensor]]
) -> list[Windows]:
    """Episodes, of which the KL at all states is read."""
    found = []
    for context, real_bt in batches:
        runs = SiteRuns(model, context, site, last_only=False)
        found.append(Windows(runs, tokens_real(context, real_bt), divergence(runs, real_bt)))
    return found


def pair_windows(
    model: DecisionTransformerModel, site: Site, batches: list[PairBatch]
) -> tuple[list[Windows], pd.DataFrame]:
    """The distinct runs of edited pairs, of which the change of the logit difference is read, and its size.

    Returns:
        The windows; and one row a window: run (``clean``, or the edit's name), variant, reward_to_go, ld.
    """
    found, tables = [], []
    for batch in batches:
        edited = np.flatnonzero(batch.kind(EDIT))
        if not len(edited):
            continue
        table = batch.table.iloc[edited]
        first = edited[np.unique(table["clean"].to_numpy(), return_index=True)[1]]
        for name, context, rows in ((CLEAN, batch.clean, first), (None, batch.corrupt, edited)):
            index = torch.from_numpy(rows)
            runs = SiteRuns(model, context[index], site, last_only=True)
            base = batch.difference_of(runs.logits, index)

            def effect(
                row_r: Tensor, logits: Tensor, batch=batch, index=index, base=base
            ) -> Tensor:
                return batch.difference_of(logits, index[row_r]) - base[row_r]

            real = torch.ones(runs.x_bnd.shape[:2], dtype=torch.bool)
            found.append(Windows(runs, real, effect))
            about = batch.table.iloc[rows]
            tables.append(
                pd.DataFrame({
                    "run": name or about["edit"].to_numpy(), "variant": about["variant"].to_numpy(),
                    "reward_to_go": about["reward_to_go"].to_numpy(), "ld": base.double().numpy(),
                })
            )  # fmt: skip
    columns = ["run", "variant", "reward_to_go", "ld"]
    table = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=columns)
    return found, table


def apart(model: DecisionTransformerModel, batch: PairBatch, gap: float) -> np.ndarray:
    """Edited pairs of a batch whose runs' logit differences are apart by a gap."""
    with torch.no_grad():
        clean, corrupt = (
            batch.difference(model.last_logits(c)) for c in (batch.clean, batch.corrupt)
        )
    return np.flatnonzero(batch.kind(EDIT) & ((clean - corrupt).abs().numpy() >= gap))
