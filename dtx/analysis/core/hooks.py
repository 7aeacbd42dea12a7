"""Hooks of the nodes that are patched, by the names that tables use."""

from __future__ import annotations

HOOKS = {
    **{name: f"hook_{name}" for name in ("resid_pre", "resid_mid", "resid_post")},
    **{name: f"hook_{name}" for name in ("attn_out", "mlp_out")},
    **{name: f"attn.hook_{name}" for name in ("z", "q", "k", "v", "pattern")},
}
"""After ``blocks.{layer}.``."""
