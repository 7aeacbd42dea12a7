"""The settings that all sweeps of patches share, and the names of what they patch."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from dtx.config.ranges import Count, Positive
from dtx.dt.names import head_name
from dtx.stage import RUNTIME


class Direction(enum.Enum):
    """``denoise``: clean activations into the corrupt run. ``noise``: corrupt ones into the clean run."""

    denoise = "denoise"
    noise = "noise"

    def expected(self, like: str) -> int | None:
        """rho of a donor that is like the ``clean`` or the ``corrupt`` run in what is carried; else None."""
        source, base = ("clean", "corrupt") if self is Direction.denoise else ("corrupt", "clean")
        return {source: 1, base: 0}.get(like)


class Node(enum.Enum):
    """What is patched at a token: the residual stream, a component's output, or each head's parts."""

    resid_pre = "resid_pre"
    attn_out = "attn_out"
    resid_mid = "resid_mid"
    mlp_out = "mlp_out"
    resid_post = "resid_post"
    z = "z"
    q = "q"
    k = "k"
    v = "v"
    pattern = "pattern"

    @property
    def each_head(self) -> bool:
        """Whether it is patched for each head apart."""
        return self in (Node.z, Node.q, Node.k, Node.v, Node.pattern)

    @property
    def inside_attention(self) -> bool:
        """Whether a patch changes what other tokens read in the same layer."""
        return self in (Node.q, Node.k, Node.v, Node.pattern)


HOOKS = {
    **{name: f"hook_{name}" for name in ("resid_pre", "resid_mid", "resid_post")},
    **{name: f"hook_{name}" for name in ("attn_out", "mlp_out")},
    **{name: f"attn.hook_{name}" for name in ("z", "q", "k", "v", "pattern")},
}
"""TransformerLens's names of the nodes, after ``blocks.{layer}.``."""

EDIT, NULL = "edit", "null"
DONOR_CLEAN, DONOR_CORRUPT = DONORS = ("donor_clean", "donor_corrupt")
"""Kinds of pairs in the tables: the edit, two equal runs, and activations from another world's run that has
the answer of the clean run, or of the corrupt run."""


def hook_of(layer: int, node: str) -> str:
    """TransformerLens's name of a node's activation."""
    return f"blocks.{layer}.{HOOKS[node]}"


def name_of(layer: int, node: str, head: int | None) -> str:
    """``L0 resid_pre``, ``L0H1 z``, ``L1 mlp_out``."""
    return f"L{layer} {node}" if head is None else f"{head_name(layer, head)} {node}"


@dataclass(frozen=True, kw_only=True)
class SweepSpec:
    """Settings of every sweep of patches; the config of each analysis explains them."""

    tolerance: Positive
    at_once: Count = field(metadata=RUNTIME)
