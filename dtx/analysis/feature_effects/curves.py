"""How much of an edit's effect the k strongest features carry alone, and how much is left without them.

Beside them: the k strongest dimensions of the same activation (of ``mlp.hook_post``: neurons), and random
sets of k features.

Shape suffixes: b pair, n token, d activation, f feature, s set.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from dtx.analysis.feature_effects.patches import Patches

FEATURES, DIMENSIONS, RANDOM_FEATURES = BASES = ("features", "dimensions", "random features")


def sets(patches: Patches, sizes: Sequence[int], draws: int, seed: int) -> pd.DataFrame:
    """Restored shares by set, of each pair.

    Features are ranked in each condition by attribution (gradient times change, mean over its pairs), and so
    are dimensions; sets are patched exactly.

    Args:
        patches: Pairs. sizes: Of the sets. draws: Random orders of the features that change. seed: Of them.

    Returns:
        edit, reward_to_go, variant, basis, draw, k, faithfulness (rho of the set alone), remaining (rho of
        everything else, the error included).
    """
    tables = []
    for (edit, target), rows in patches.conditions():
        about = patches.table.iloc[rows.numpy()]
        for basis, draw, k, added_bnd in _sets(patches, rows, sizes, draws, seed):
            rest = patches.whole_bnd[rows] - added_bnd
            both = patches.rho(rows.repeat(2), torch.cat([added_bnd, rest])).double().numpy()
            tables.append(
                pd.DataFrame({
                    "edit": edit, "reward_to_go": target, "variant": about["variant"].to_numpy(),
                    "basis": basis, "draw": draw, "k": k, "faithfulness": both[: len(rows)],
                    "remaining": both[len(rows) :],
                })
            )  # fmt: skip
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=COLUMNS)


COLUMNS = ["edit", "reward_to_go", "variant", "basis", "draw", "k", "faithfulness", "remaining"]


def _sets(
    patches: Patches, rows: Tensor, sizes: Sequence[int], draws: int, seed: int
) -> Iterator[tuple[str, int, int, Tensor]]:
    """Yield (basis, draw, k, what the set adds (b, n, d))."""
    whole = patches.whole_bnd[rows]
    score_f = patches.attribution()[rows].mean(0)
    changing = torch.nonzero(patches.change_bnf[rows].ne(0).any(0).any(0)).flatten()
    order = changing[score_f[changing].argsort(descending=True, stable=True)]
    by_dimension = (patches.gradient_bnd[rows] * whole).sum(1) / patches.span_b[rows, None]
    dimensions = by_dimension.mean(0).argsort(descending=True, stable=True)
    rng = np.random.default_rng(seed)
    orders = [changing[torch.from_numpy(rng.permutation(len(changing)))] for _ in range(draws)]
    for k in sizes:
        yield FEATURES, 0, k, patches.of_features(order[:k])[rows]
        kept = torch.zeros(whole.shape[-1])
        kept[dimensions[:k]] = 1
        yield DIMENSIONS, 0, k, whole * kept
        for draw, random in enumerate(orders):
            yield RANDOM_FEATURES, draw, k, patches.of_features(random[:k])[rows]


def single(patches: Patches) -> pd.DataFrame:
    """What the error and all features together restore, of each pair: rho; and the sum of both changes.

    Returns:
        edit, reward_to_go, variant, part (``features``, ``error``, ``both``, ``nothing``), rho.
    """
    rows = torch.arange(len(patches.pair_b))
    features = patches.change_bnf @ patches.directions.direction_fd
    parts = {
        "features": features, "error": patches.error_bnd, "both": features + patches.error_bnd,
        "nothing": torch.zeros_like(features),
    }  # fmt: skip
    return pd.concat(
        [
            patches.table.assign(part=name, rho=patches.rho(rows, added).double().numpy())
            for name, added in parts.items()
        ],
        ignore_index=True,
    )


def area(table: pd.DataFrame) -> pd.DataFrame:
    """Mean over sizes of two-sided faithfulness 1 - |1 - f|, at least 0; one row a condition, variant, basis.

    Sizes are even in the logarithm, so this is the area under the curve.
    """
    score = 1 - (1 - table["faithfulness"]).abs()
    some = table.assign(area=score.clip(lower=0))
    return (
        some.groupby(["edit", "reward_to_go", "variant", "basis"], sort=False)["area"]
        .mean()
        .reset_index()
    )
