"""Activations of several hooks or models beside each other, one long vector a token: what crosscoders read.

Letters: s source, n rows of a block, d numbers of all sources together, f feature.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dtx.activations.stored import Activations
from dtx.dictionary.autoencoder import SparseAutoencoder
from dtx.dictionary.crosscoder_files import Crosscoder, Source, write
from dtx.dictionary.measure import ROWS, Measured, measure
from dtx.dictionary.networks.network import Network
from dtx.dictionary.rows import Scale, Weights
from dtx.dictionary.spec import CROSSCODER, Split
from dtx.dictionary.tasks import Task
from dtx.errors import UserError

IDENTIFY = ("episode", "step", "kind", "start", "padding", "count")
"""Columns that are equal where two stores have the same rows."""
EXCLUSIVE = 0.9
"""Share of a feature's decoders above which it is one source's alone (Lindsey et al. 2024)."""


class Joined(Activations):
    """All sources as one hook, each centred, and scaled to a mean squared norm of its width.

    Args:
        stores: Label and stored activations.
        hooks: Those that are read of each.
        held_out: The split by whose training rows they are scaled.
        normalise: Whether they are scaled.

    Raises:
        UserError: The stores have different rows.
    """

    def __init__(
        self,
        stores: Sequence[tuple[str, Activations]],
        hooks: Sequence[str],
        held_out: Split,
        normalise: bool,
    ):
        first_label, first = stores[0]
        super().__init__(first.folder)
        for label, stored in stores[1:]:
            _check_same(first_label, first, label, stored)
        weights = Weights.of(first, held_out)
        self.sources: list[tuple[Activations, str, Scale]] = []
        self.described: list[Source] = []
        for label, stored in stores:
            for hook in hooks:
                own = Scale.of(stored, hook, weights, True)
                width = stored.hooks[hook]
                spread = width**0.5 / own.factor
                self.described.append(Source(hook, label, spread))
                self.sources.append((stored, hook, own if normalise else Scale(own.mean, 1.0)))
        self.widths = [stored.hooks[hook] for stored, hook, _ in self.sources]
        self.hooks = {CROSSCODER: sum(self.widths)}

    def block(
        self, hook: str, number: int, wanted: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """As :meth:`Activations.block`, (n, d) float32, whatever the hook is called."""
        parts, rows = [], np.zeros(0, np.int64)
        for stored, name, scale in self.sources:
            x, rows = stored.block(name, number, wanted)
            parts.append(scale(torch.from_numpy(x.astype(np.float32))).numpy())
        return np.concatenate(parts, 1), rows

    def crosscoder(self, sae: SparseAutoencoder) -> Crosscoder:
        """An autoencoder of the joined vectors as a crosscoder of the models' own activations."""
        w = sae.weights
        weights = {"b_enc": w["b_enc"], "threshold": w["threshold"]}
        begin = 0
        for s, (width, (_, _, scale)) in enumerate(zip(self.widths, self.sources, strict=True)):
            own = slice(begin, begin + width)
            weights[f"W_enc.{s}"] = w["W_enc"][own] * scale.factor
            weights[f"W_dec.{s}"] = w["W_dec"][:, own] / scale.factor
            weights[f"b_dec.{s}"] = scale.mean + w["b_dec"][own] / scale.factor
            begin += width
        return Crosscoder(tuple(self.described), weights)


def _check_same(first_label: str, first: Activations, label: str, stored: Activations) -> None:
    same = len(first) == len(stored) and all(
        np.array_equal(first.columns[name], stored.columns[name]) for name in IDENTIFY
    )
    if not same:
        raise UserError(
            f"dictionary.others: {label} has not the rows of {first_label} ({len(stored):,} and "
            f"{len(first):,}): a crosscoder needs models that read the same windows in the same order; "
            "those that differ in context, padding or reward-to-go do not"
        )


class Crosscoding(Task):
    """Crosscoders.

    Args:
        joined: What is read.
    """

    def __init__(self, joined: Joined):
        super().__init__(joined)
        self.joined = joined

    def written(
        self, network: Network, scales: Mapping[str, Scale], rows: np.ndarray, folder: Path
    ) -> tuple[Measured, dict[str, Any]]:
        """As :meth:`Task.written`; further columns: see :class:`dtx.dictionary.trained.Crosscoders`."""
        sae = network.folded(scales[CROSSCODER])
        crosscoder = self.joined.crosscoder(sae)
        write(crosscoder, folder)
        explained, alive = self._by_source(sae, rows)
        share_f = crosscoder.share().amax(0)[alive]
        more: dict[str, Any] = {
            f"explained_variance_{s}": value for s, value in enumerate(explained)
        }
        exclusive = float((share_f >= EXCLUSIVE).double().mean()) if alive.any() else float("nan")
        return measure(sae, self.joined, rows), {**more, "exclusive": exclusive}

    @torch.no_grad()
    def _by_source(
        self, sae: SparseAutoencoder, rows: np.ndarray
    ) -> tuple[list[float], torch.Tensor]:
        """Explained variance of each source, and which features are ever on (f,)."""
        wanted = np.zeros(len(self.joined), bool)
        wanted[rows] = True
        count = self.joined.columns["count"]
        d, f = sae.weights["W_enc"].shape
        error_d, sums_d, squares_d = (torch.zeros(d, dtype=torch.float64) for _ in range(3))
        total, ever = 0.0, torch.zeros(f, dtype=torch.bool)
        for number in range(self.joined.blocks):
            read, numbers = self.joined.block(CROSSCODER, number, wanted)
            for begin in range(0, len(read), ROWS):
                x_nd = torch.from_numpy(read[begin : begin + ROWS])
                w_n = torch.from_numpy(count[numbers[begin : begin + ROWS]].astype(np.float64))
                features = sae.encode(x_nd)
                ever |= (features > 0).any(0)
                error_d += w_n @ (sae.decode(features) - x_nd).double().square()
                sums_d += w_n @ x_nd.double()
                squares_d += w_n @ x_nd.double().square()
                total += float(w_n.sum())
        deviation_d = squares_d - sums_d.square() / total
        parts = zip(
            error_d.split(self.joined.widths), deviation_d.split(self.joined.widths), strict=True
        )
        return [1 - float(error.sum() / deviation.sum()) for error, deviation in parts], ever
