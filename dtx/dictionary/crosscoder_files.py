"""Crosscoders: one set of features that reads several activations at once and gives all of them back.

The activations are of several hooks of a model, or of the same hook of several models, on the same tokens. A
feature's decoder is as long at each as the feature matters there (Lindsey et al. 2024):
:meth:`Crosscoder.share` tells features of one from those of all. Features are those beyond a threshold, found
by BatchTopK: under L1 shared features come out as if they were of one alone (Minder et al. 2025).

A folder holds ``cfg.json`` (sources, metadata) and ``crosscoder.safetensors``; SAELens has no crosscoders.
They are not put into a model, for they read the last of the activations before they give the first.

Letters: n any leading axes, s source, d activation, f feature.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor

from dtx.beside import building, put
from dtx.errors import UserError
from dtx.files import read_json, read_tensors
from dtx.report import write_atomically

CONFIG, WEIGHTS = "cfg.json", "crosscoder.safetensors"
ARCHITECTURE = "crosscoder"


@dataclass(frozen=True)
class Source:
    """One of the activations that a crosscoder reads.

    Attributes:
        hook: Its name in the model.
        activations: Label of the stored activations, which tells models apart.
        spread: Root of the mean squared distance from the mean: what lengths of decoders are compared by.
    """

    hook: str
    activations: str
    spread: float


@dataclass(frozen=True)
class Crosscoder:
    """Features of several activations together.

    Attributes:
        sources: What it reads, in this order.
        weights: ``W_enc.s`` (d, f), ``W_dec.s`` (f, d) and ``b_dec.s`` (d,) of each source s, ``b_enc`` (f,)
            and ``threshold`` (f,).
        metadata: What else is kept with it.
    """

    sources: tuple[Source, ...]
    weights: dict[str, Tensor]
    metadata: dict[str, Any] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """How many features it has."""
        return len(self.weights["b_enc"])

    def encode(self, x_snd: Sequence[Tensor]) -> Tensor:
        """Features (n, f) of one activation (n, d) a source."""
        if len(x_snd) != len(self.sources):
            raise ValueError(f"{len(x_snd)} activations of {len(self.sources)} sources")
        w = self.weights
        before_nf = w["b_enc"] + sum(
            (x_nd - w[f"b_dec.{s}"]) @ w[f"W_enc.{s}"] for s, x_nd in enumerate(x_snd)
        )
        return F.relu(before_nf) * (before_nf > w["threshold"])

    def decode(self, features_nf: Tensor) -> list[Tensor]:
        """The activations (n, d) of all sources."""
        w = self.weights
        return [features_nf @ w[f"W_dec.{s}"] + w[f"b_dec.{s}"] for s in range(len(self.sources))]

    def reconstruct(self, x_snd: Sequence[Tensor]) -> list[Tensor]:
        """Encode and decode."""
        return self.decode(self.encode(x_snd))

    def norms(self) -> Tensor:
        """Length (s, f) of each feature's decoder at each source, in units of the source's spread."""
        of = enumerate(self.sources)
        return torch.stack([self.weights[f"W_dec.{s}"].norm(dim=1) / x.spread for s, x in of])

    def share(self) -> Tensor:
        """How much of a feature is each source's, (s, f): its decoder's share of the sum of lengths.

        1 / sources: of all alike; 1: of one alone. 0 throughout for a feature without any decoder.
        """
        norms_sf = self.norms()
        return norms_sf / norms_sf.sum(0).clamp(min=1e-12)

    def similarity(self, one: int = 0, other: int = 1) -> Tensor:
        """Cosine (f,) of the decoders at two sources of one width: whether a feature is the same in both.

        Raises:
            UserError: Their widths differ, so directions cannot be compared.
        """
        a_fd, b_fd = (self.weights[f"W_dec.{s}"] for s in (one, other))
        if a_fd.shape != b_fd.shape:
            raise UserError(
                f"{self.sources[one].hook} and {self.sources[other].hook} have {a_fd.shape[1]} and "
                f"{b_fd.shape[1]} dimensions: directions cannot be compared"
            )
        return F.cosine_similarity(a_fd, b_fd, dim=1)


def write(crosscoder: Crosscoder, folder: Path) -> None:
    """Write a crosscoder, whole or not at all."""
    config = {
        "architecture": ARCHITECTURE,
        "sources": [asdict(source) for source in crosscoder.sources],
        "d_sae": crosscoder.size,
        "metadata": crosscoder.metadata,
    }
    tensors = {k: v.detach().float().contiguous() for k, v in crosscoder.weights.items()}
    with building(folder) as scratch:
        new = scratch / "new"
        new.mkdir()
        safetensors.torch.save_file(tensors, new / WEIGHTS)
        write_atomically(new / CONFIG, json.dumps(config) + "\n")
        put(new, folder, "give another folder", replace=True)


def read(folder: Path) -> Crosscoder:
    """Read a crosscoder.

    Raises:
        UserError: A file is missing or damaged, or it is another kind of dictionary.
    """
    try:
        config, tensors = read_json(folder / CONFIG), read_tensors(folder / WEIGHTS)
        architecture = config["architecture"]
        sources = tuple(
            Source(str(s["hook"]), str(s["activations"]), float(s["spread"]))
            for s in config["sources"]
        )
        f = int(config["d_sae"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder}: not a readable crosscoder ({error})") from error
    if architecture != ARCHITECTURE or not sources or any(not s.spread > 0 for s in sources):
        raise UserError(f"{folder}: architecture {architecture!r} of {len(sources)} sources")
    found = Crosscoder(
        sources, {k: v.float() for k, v in tensors.items()}, config.get("metadata") or {}
    )
    _check(found, f, folder)
    return found


def _check(found: Crosscoder, f: int, folder: Path) -> None:
    shapes = {name: tuple(w.shape) for name, w in found.weights.items()}
    wanted: dict[str, tuple[int, ...]] = {"b_enc": (f,), "threshold": (f,)}
    for s in range(len(found.sources)):
        d = shapes.get(f"b_dec.{s}", (0,))[0]
        wanted |= {f"W_enc.{s}": (d, f), f"W_dec.{s}": (f, d), f"b_dec.{s}": (d,)}
    if shapes != wanted:
        raise UserError(f"{folder / WEIGHTS}: {shapes}, but {CONFIG} asks for {wanted}")
