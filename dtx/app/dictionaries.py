"""Sparse autoencoders that fit a model: beside its weights, in the store, or in folders that are given."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from dtx.app.moment import Moment
from dtx.app.stored import where
from dtx.dictionary.autoencoder import SparseAutoencoder
from dtx.dictionary.sae_files import CONFIG, WEIGHTS, read
from dtx.dt.model_config import ModelConfig
from dtx.errors import UserError
from dtx.exchange.lookup import readers
from dtx.text import first_line

FOLDER = "sae"
"""Beside a model's weights: one dictionary, or a folder a dictionary."""
_ANY = ("dictionary", "analysis", "dt", "dataset", "agent", "pairs")


@dataclass(frozen=True)
class Dictionary:
    """A sparse autoencoder by name: its folder's, with those above where that is needed."""

    name: str
    sae: SparseAutoencoder


def dictionaries_of(moment: Moment) -> tuple[list[Dictionary], list[str]]:
    """Those that fit the model, and a line on each that does not.

    Args:
        moment: Of the model.
    """
    found, reasons = [], []
    for folder in _folders(moment):
        try:
            sae = _read(folder, (folder / WEIGHTS).stat().st_mtime_ns)
        except (UserError, OSError) as error:
            reasons.append(first_line(error).replace(str(folder), folder.name))
            continue
        reason = misfit(sae, moment.cfg)
        if reason:
            reasons.append(f"{folder.name}: {reason}")
        else:
            found.append(Dictionary(_name(folder, [each.name for each in found]), sae))
    return found, reasons


def misfit(sae: SparseAutoencoder, cfg: ModelConfig) -> str:
    """Why a dictionary is of another model; empty if it may be of one with this shape."""
    widths = {
        "hook_resid_pre": cfg.d_model, "hook_resid_mid": cfg.d_model, "hook_resid_post": cfg.d_model,
        "hook_attn_out": cfg.d_model, "hook_mlp_out": cfg.d_model, "mlp.hook_pre": cfg.d_mlp,
        "mlp.hook_post": cfg.d_mlp, "attn.hook_z": cfg.n_heads * cfg.d_head,
    }  # fmt: skip
    known = {
        f"blocks.{i}.{name}": width for i in range(cfg.n_layers) for name, width in widths.items()
    }
    width = known.get(sae.hook_name)
    if width is None:
        return (
            f"it reads {sae.hook_name or 'no named activation'}, which no layer of this model has"
        )
    if width != len(sae.weights["b_dec"]):
        return f"it reads {len(sae.weights['b_dec'])} numbers of {sae.hook_name}, the model has {width}"
    return ""


def _folders(moment: Moment) -> list[Path]:
    """Folders with a dictionary's two files: given ones, the model's own, those that a stage made of it."""
    roots: list[Path] = list(moment.dictionaries)
    if moment.chosen is not None:
        roots.append(moment.chosen.entry.folder / FOLDER)
        roots += _made_of(moment)
    found = dict.fromkeys(folder for root in roots for folder in _inside(root))
    return list(found)


def _made_of(moment: Moment) -> list[Path]:
    try:
        store, chosen = where(moment)
    except UserError:
        return []
    return list(_in_store(store.root, store.root.stat().st_mtime_ns, chosen.entry.label))


@functools.lru_cache(64)
def _in_store(root: Path, mark: int, label: str) -> tuple[Path, ...]:
    from dtx.store.store import Store

    return tuple(
        root / made
        for made, _, _, _ in readers(Store(root), {label}, _ANY)
        if any(True for _ in _inside(root / made))
    )


def _inside(root: Path) -> Iterable[Path]:
    """The root itself, or folders right in it."""
    for folder in [root, *sorted(root.glob("*/"))]:
        if (folder / CONFIG).is_file() and (folder / WEIGHTS).is_file():
            yield folder


def _name(folder: Path, taken: list[str]) -> str:
    """The folder's name; with that of the folder above where it says nothing or is there already."""
    if folder.name == FOLDER or folder.name in taken:
        return f"{folder.parent.name}/{folder.name}"
    return folder.name


@functools.lru_cache(8)
def _read(folder: Path, mark: int) -> SparseAutoencoder:
    return read(folder)
