"""Cosines and principal components of the state embedding's rows, on centred weights in float64.

Letters: i, j rows (channels that occur in the data), d model, c channel of the flattened observation.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch

from dtx.analysis.core.channels import channel_name, channel_names, occurring
from dtx.analysis.core.controls import STRONGEST
from dtx.analysis.core.result import Check, Control, Relation, Result, largest
from dtx.analysis.embeddings.spec import EmbeddingsSpec, Subset
from dtx.dataset.episodes import Episodes
from dtx.dt.model import DecisionTransformerModel
from dtx.dt.processing import Rewriting, processed
from dtx.env.actions import Action
from dtx.statistics import enumerated
from dtx.training.threads import one_thread

TOLERANCE = 1e-9
"""How far shares may be from adding to 1, and numbers from those of the relabelled table."""

FEWEST = 3
"""Channels that a subset must have for principal components."""
COMPONENTS = ["subset", "component", "share", "random_95", "members"]
MAPS = ["subset", "component", "channel", "column", "row", "projection"]
"""Columns of the two tables."""


def compute(spec: EmbeddingsSpec, model: DecisionTransformerModel, episodes: Episodes) -> Result:
    """Norms and cosines of all channels that occur, principal components of subsets.

    Args:
        spec: What counts as antipodal, the subsets, the controls.
        model: Any.
        episodes: Only channels that occur in them are read.

    Returns:
        Table ``norms``: one row an embedding vector: kind (state, action, time, reward-to-go), name, column,
        row, norm. ``pairs``: one row a pair of channels in one cell: column, row, one, other, cosine,
        antipodal. ``components``: one row a subset and component: subset, component, share, random_95 (of PC1
        and of PC1+2 in random subsets, else missing), members. ``maps``: one row a subset, component and
        member: subset, component, channel, column, row, projection; a subset of which fewer than
        :data:`FEWEST` channels occur has no rows in the two. Arrays ``cosine`` (i, i) of all channels
        that occur, in the order of ``norms``, and ``order`` (i,) that makes similar ones neighbours.
    """
    with one_thread():
        model = processed(model, (Rewriting.centre_writing,), torch.float64)
    channel_i = occurring(episodes)
    embedding_id = model.embed.W_S.numpy()[channel_i]
    rng = np.random.default_rng(spec.seed)
    cosine_ij, pairs, count = antipodal(embedding_id, channel_i, spec.antipodal)
    chance = [
        gaussian_count(embedding_id, channel_i, spec.antipodal, rng) for _ in range(spec.controls)
    ]
    relabelled = relabelling_error(embedding_id, channel_i, spec.antipodal, rng)
    members_of = {name: members(subset, channel_i) for name, subset in spec.subsets.items()}
    parts = [
        _components(spec, name, embedding_id, channel_i, member_i, rng)
        for name, member_i in members_of.items()
        if len(member_i) >= FEWEST
    ]
    components = _joined([table for table, _ in parts], COMPONENTS)
    maps = _joined([table for _, table in parts], MAPS)
    tables = {
        "norms": _norms(model, channel_i),
        "pairs": pairs,
        "components": components,
        "maps": maps,
    }
    metrics: dict[str, float | None] = {
        "channels": float(len(channel_i)),
        "distinct_observations": float(len(episodes.observations)),
        "norm": float(np.linalg.norm(embedding_id, axis=1).mean()),
        "antipodal_pairs": float(count),
        "antipodal_random_95": float(np.quantile(chance, STRONGEST)),
    }
    for name in spec.subsets:
        rows = components[components.subset == name]
        metrics[f"{name}_pc12"] = float(rows.share.iloc[:2].sum()) if len(rows) else None
        metrics[f"{name}_random_95"] = float(rows.random_95.iloc[1]) if len(rows) else None
    return _result(tables, metrics, members_of, relabelled, cosine_ij)


def _result(
    tables: dict[str, pd.DataFrame],
    metrics: dict[str, float | None],
    members_of: Mapping[str, np.ndarray],
    relabelled: float,
    cosine_ij: np.ndarray,
) -> Result:
    share = tables["components"].groupby("subset").share.sum()
    found, chance = metrics["antipodal_pairs"], metrics["antipodal_random_95"]
    evidence = [f"{found:.0f} antipodal pairs in one cell (Gaussian: at most {chance:.0f})"]
    for name, member_i in members_of.items():
        share_2, random = metrics[f"{name}_pc12"], metrics[f"{name}_random_95"]
        evidence.append(
            f"{name}: only {len(member_i)} of its channels occur"
            if share_2 is None
            else f"{name}: PC1+2 {share_2:.0%} (random subsets {random:.0%})"
        )
    checks = [
        Check(
            name="relabelled channels give the same cosines and shares",
            error=relabelled,
            tolerance=TOLERANCE,
        )
    ]
    if len(share):
        name = "the components' shares of variance add to 1"
        error = largest(abs(total - 1) for total in share)
        checks.append(Check(name=name, error=error, tolerance=TOLERANCE))
    assert found is not None and chance is not None
    control = Control.of(
        "antipodal pairs in one cell, beside 95% of Gaussian tables",
        enumerated(found, len(tables["pairs"]), of="pairs"),
        Relation.ABOVE,
        chance,
    )
    return Result(
        finding=f"{', '.join(evidence)}; {metrics['channels']:.0f} channels that occur",
        metrics=metrics,
        checks=checks,
        controls=[control],
        tables=tables,
        arrays={"cosine": cosine_ij, "order": clustered(cosine_ij)},
    )


def _joined(tables: list[pd.DataFrame], columns: list[str]) -> pd.DataFrame:
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=columns)


def _components(
    spec: EmbeddingsSpec,
    name: str,
    embedding_id: np.ndarray,
    channel_i: np.ndarray,
    member_i: np.ndarray,
    rng: np.random.Generator,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A subset's principal components, beside those of random subsets, and the maps of the first two."""
    share, projection = principal(embedding_id[member_i])
    random = [
        principal(embedding_id[rng.choice(len(channel_i), len(member_i), replace=False)])[0]
        for _ in range(spec.controls)
    ]
    limit = np.full(len(share), np.nan)
    limit[:2] = [np.quantile([r[:k].sum() for r in random], STRONGEST) for k in (1, 2)]
    components = [
        (name, component, value, random_95, len(member_i))
        for component, (value, random_95) in enumerate(zip(share, limit, strict=True), start=1)
    ]
    maps = [
        (name, component + 1, channel_name(channel_i[i] // 49), *_cell(channel_i[i]), value)
        for component in range(min(2, projection.shape[1]))
        for i, value in zip(member_i, projection[:, component].tolist(), strict=True)
    ]
    return pd.DataFrame(components, columns=COMPONENTS), pd.DataFrame(maps, columns=MAPS)


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
    known = np.array(channel_names(), object)
    pairs = pd.DataFrame(
        {
            "column": channel_i[one] % 49 // 7,
            "row": channel_i[one] % 7,
            "one": known[channel_i[one] // 49],
            "other": known[channel_i[other] // 49],
            "cosine": cosine_ij[one, other],
        }
    )
    pairs["antipodal"] = pairs.cosine < threshold
    return cosine_ij, pairs, int(pairs.antipodal.sum())


def principal(embedding_id: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Shares of variance (components,), which add to 1, and projections (i, components)."""
    left, value, _ = np.linalg.svd(embedding_id - embedding_id.mean(0), full_matrices=False)
    return value**2 / max((value**2).sum(), 1e-300), left * value


def principal_directions(embedding_id: np.ndarray) -> np.ndarray:
    """The components themselves (components, d): unit vectors, the first with most variance."""
    return np.linalg.svd(embedding_id - embedding_id.mean(0), full_matrices=False)[2]


def members(subset: Subset, channel_i: np.ndarray) -> np.ndarray:
    """Places among the channels that occur."""
    known = channel_names()
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


def gaussian_count(
    embedding_id: np.ndarray, channel_i: np.ndarray, threshold: float, rng: np.random.Generator
) -> int:
    """How many antipodal pairs a Gaussian table of the same shape has."""
    noise_id = rng.standard_normal(embedding_id.shape)
    return antipodal(noise_id - noise_id.mean(1, keepdims=True), channel_i, threshold)[2]


def relabelling_error(
    embedding_id: np.ndarray, channel_i: np.ndarray, threshold: float, rng: np.random.Generator
) -> float:
    """Shuffle the table's rows with their names: sorted cosines of pairs and shares must stay."""
    shuffled = rng.permutation(len(channel_i))
    _, pairs, count = antipodal(embedding_id, channel_i, threshold)
    _, again, count_again = antipodal(embedding_id[shuffled], channel_i[shuffled], threshold)
    cosines = np.abs(np.sort(pairs.cosine) - np.sort(again.cosine)).max(initial=0.0)
    shares = np.abs(principal(embedding_id)[0] - principal(embedding_id[shuffled])[0]).max()
    return largest([float(cosines), float(shares), abs(count - count_again)])


def _norms(model: DecisionTransformerModel, channel_i: np.ndarray) -> pd.DataFrame:
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
