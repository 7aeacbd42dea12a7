"""Cosines and principal components of the state embedding's rows, on centred weights in float64.

Letters: i, j rows (channels that occur in the data), d model, c channel of the flattened observation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from dtx.analysis.core.inputs import channel_name
from dtx.analysis.embeddings import Embeddings, Subset
from dtx.dt.processing import Step, processed
from dtx.dt.provider import load_at
from dtx.env.actions import Action
from dtx.env.encoding import CHANNELS, flatten, one_hot
from dtx.errors import UserError
from dtx.statistics import bootstrap
from dtx.training.threads import one_thread

STRONGEST = 0.95
"""Quantile of the controls that a number must exceed."""


@dataclass
class Results:
    """Tables and numbers of the analysis.

    Attributes:
        norms: One row an embedding vector: kind (state, action, time, reward-to-go), name, column, row, norm.
        pairs: One row a pair of channels in one cell: column, row, one, other, cosine, antipodal.
        components: One row a subset and component: subset, component, share, random_95 (of PC1 and of
            PC1+2 in random subsets, else missing), members.
        maps: One row a subset, component and member: subset, component, channel, column, row, projection.
        headline: ``embeddings/*`` scalars.
        cosine_ij: Of all channels that occur. order: That clusters them. names: Their names.
    """

    norms: pd.DataFrame
    pairs: pd.DataFrame
    components: pd.DataFrame
    maps: pd.DataFrame
    headline: dict[str, float | None]
    cosine_ij: np.ndarray
    order: np.ndarray
    names: list[str]


def measure(stage: Embeddings) -> Results:
    """All tables."""
    with one_thread():
        model = processed(
            load_at(stage.dt, stage.checkpoint), (Step.centre_writing,), torch.float64
        )
    episodes = stage.dataset.load()
    seen = flatten(one_hot(episodes.observations)).astype(bool)
    channel_i = np.flatnonzero(seen.any(0) & ~seen.all(0))
    embedding_id = model.embed.W_S.numpy()[channel_i]
    rng = np.random.default_rng(stage.seed)
    cosine_ij, pairs, count = antipodal(embedding_id, channel_i, stage.antipodal)
    chance = [
        _gaussian_count(embedding_id, channel_i, stage.antipodal, rng)
        for _ in range(stage.controls)
    ]
    error = _relabelling_error(embedding_id, channel_i, stage.antipodal, rng)
    low, high = bootstrap(np.linalg.norm(embedding_id, axis=1), stage.resamples, stage.seed)
    headline: dict[str, float | None] = {
        "embeddings/channels": float(len(channel_i)),
        "embeddings/distinct_observations": float(len(episodes.observations)),
        "embeddings/norm": float(np.linalg.norm(embedding_id, axis=1).mean()),
        "embeddings/norm_low": low,
        "embeddings/norm_high": high,
        "embeddings/antipodal_pairs": float(count),
        "embeddings/antipodal_random_95": float(np.quantile(chance, STRONGEST)),
    }
    components, maps = [], []
    for name, subset in stage.subsets.items():
        member_i = members(subset, channel_i, name)
        if len(member_i) < 3:
            raise UserError(
                f"subsets.{name}: only {len(member_i)} of its channels occur in the demonstrations; "
                "principal components need at least 3: name more channels or cells"
            )
        share, projection = principal(embedding_id[member_i])
        random = [
            principal(embedding_id[rng.choice(len(channel_i), len(member_i), replace=False)])[0]
            for _ in range(stage.controls)
        ]
        error = max(error, abs(share.sum() - 1))
        first, both = (np.quantile([r[:k].sum() for r in random], STRONGEST) for k in (1, 2))
        headline[f"embeddings/{name}_pc12"] = float(share[:2].sum())
        headline[f"embeddings/{name}_random_95"] = float(both)
        for component, value in enumerate(share):
            limit = {0: float(first), 1: float(both)}.get(component)
            components.append((name, component + 1, float(value), limit, len(member_i)))
        for component in range(min(2, projection.shape[1])):
            for place, i in enumerate(member_i):
                column, row = _cell(channel_i[i])
                kind = channel_name(channel_i[i] // 49)
                value = float(projection[place, component])
                maps.append((name, component + 1, kind, column, row, value))
    headline["embeddings/identity_error"] = float(error)
    return Results(
        norms=_norms(model, channel_i),
        pairs=pairs,
        components=pd.DataFrame(
            components, columns=["subset", "component", "share", "random_95", "members"]
        ),
        maps=pd.DataFrame(
            maps, columns=["subset", "component", "channel", "column", "row", "projection"]
        ),
        headline=headline,
        cosine_ij=cosine_ij,
        order=clustered(cosine_ij),
        names=[_name(c) for c in channel_i],
    )


def antipodal(
    embedding_id: np.ndarray, channel_i: np.ndarray, threshold: float
) -> tuple[np.ndarray, pd.DataFrame, int]:
    """Cosines (i, j), the pairs of channels that share a cell and a kind of index, how many are opposite.

    Two objects of one cell exclude each other, as two colours do; an object and a colour do not.
    """
    norm_i1 = np.linalg.norm(embedding_id, axis=1, keepdims=True)
    unit_id = embedding_id / np.maximum(norm_i1, 1e-12)
    cosine_ij = unit_id @ unit_id.T
    cell_i, kind_i = channel_i % 49, np.digitize(channel_i // 49, (11, 17))
    same_ij = (cell_i[:, None] == cell_i) & (kind_i[:, None] == kind_i)
    one, other = np.nonzero(np.triu(same_ij, 1))
    rows = []
    for i, j in zip(one, other, strict=True):
        first, second = (channel_name(channel_i[k] // 49) for k in (i, j))
        rows.append((*_cell(channel_i[i]), first, second, float(cosine_ij[i, j])))
    pairs = pd.DataFrame(rows, columns=["column", "row", "one", "other", "cosine"])
    pairs["antipodal"] = pairs.cosine < threshold
    return cosine_ij, pairs, int(pairs.antipodal.sum())


def principal(embedding_id: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Shares of variance (components,), which add to 1, and projections (i, components)."""
    left, value, _ = np.linalg.svd(embedding_id - embedding_id.mean(0), full_matrices=False)
    return value**2 / max((value**2).sum(), 1e-300), left * value


def members(subset: Subset, channel_i: np.ndarray, name: str) -> np.ndarray:
    """Places among the channels that occur.

    Raises:
        UserError: A channel's name is not MiniGrid's.
    """
    known = [channel_name(c) for c in range(CHANNELS)]
    if unknown := [c for c in subset.channels if c not in known]:
        raise UserError(
            f"subsets.{name}.channels: no channel {unknown[0]!r} (there are: {', '.join(known)})"
        )
    wanted = np.isin([known[c // 49] for c in channel_i], subset.channels)
    if subset.cells is not None:
        wanted &= np.isin(channel_i % 49, [column * 7 + row for column, row in subset.cells])
    return np.flatnonzero(wanted)


def clustered(cosine_ij: np.ndarray) -> np.ndarray:
    """An order of the rows in which similar ones are neighbours (average linkage of 1 - cosine)."""
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    distance_ij = np.clip(1 - cosine_ij, 0, 2)
    np.fill_diagonal(distance_ij, 0)
    condensed = squareform((distance_ij + distance_ij.T) / 2, checks=False)
    return leaves_list(linkage(condensed, "average"))


def _gaussian_count(
    embedding_id: np.ndarray, channel_i: np.ndarray, threshold: float, rng: np.random.Generator
) -> int:
    noise_id = rng.standard_normal(embedding_id.shape)
    return antipodal(noise_id - noise_id.mean(1, keepdims=True), channel_i, threshold)[2]


def _relabelling_error(
    embedding_id: np.ndarray, channel_i: np.ndarray, threshold: float, rng: np.random.Generator
) -> float:
    """Shuffle the table's rows with their names: sorted cosines of pairs and shares must stay."""
    shuffled = rng.permutation(len(channel_i))
    _, pairs, count = antipodal(embedding_id, channel_i, threshold)
    _, again, count_again = antipodal(embedding_id[shuffled], channel_i[shuffled], threshold)
    cosines = np.abs(np.sort(pairs.cosine) - np.sort(again.cosine)).max(initial=0.0)
    shares = np.abs(principal(embedding_id)[0] - principal(embedding_id[shuffled])[0]).max()
    return float(max(cosines, shares, abs(count - count_again)))


def _norms(model, channel_i: np.ndarray) -> pd.DataFrame:
    embed, known = model.embed, list(Action)
    rows = [
        ("state", _name(c), *_cell(c), float(np.linalg.norm(embed.W_S[c].numpy())))
        for c in channel_i
    ]
    for a, vector in enumerate(embed.W_A):
        padding = a == model.cfg.n_actions
        name = "padding" if padding else known[a].value if a < len(known) else str(a)
        rows.append(("action", name, None, None, float(vector.norm())))
    rows += [("time", str(t), None, None, float(v.norm())) for t, v in enumerate(embed.W_time)]
    if embed.W_R is not None:
        rows.append(("reward-to-go", "per unit", None, None, float(embed.W_R.norm())))
    return pd.DataFrame(rows, columns=["kind", "name", "column", "row", "norm"])


def _cell(channel: int) -> tuple[int, int]:
    return int(channel) % 49 // 7, int(channel) % 7


def _name(channel: int) -> str:
    column, row = _cell(channel)
    return f"{channel_name(channel // 49)} ({column},{row})"
