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
    """A sparse autoencoder, or a transcoder.

    Attributes:
        name: Of its folder, with those above where that is needed.
        folder: With its two files.
    """

    name: str
    folder: Path

    @property
    def sae(self) -> SparseAutoencoder:
        """Read from the files, unless it was among the last few."""
        return _read(self.folder, _mark(self.folder))


@dataclass(frozen=True)
class Ends:
    """What a dictionary reads and gives, with their widths; the same twice for an autoencoder."""

    read: str
    read_width: int
    given: str
    given_width: int


def dictionaries_of(moment: Moment) -> tuple[list[Dictionary], list[str]]:
    """Those that fit the model, and a line on each that does not.

    Args:
        moment: Of the model.
    """
    found, reasons = [], []
    for folder in _folders(moment):
        try:
            ends = _ends(folder, _mark(folder))
        except (UserError, OSError) as error:
            reasons.append(first_line(error).replace(str(folder), folder.name))
            continue
        reason = misfit(ends, moment.cfg)
        if reason:
            reasons.append(f"{folder.name}: {reason}")
        else:
            found.append(Dictionary(_name(folder, [each.name for each in found]), folder))
    return found, reasons


def misfit(ends: Ends, cfg: ModelConfig) -> str:
    """Why a dictionary is of another model; empty if it may be of one with this shape."""
    heads = cfg.n_heads * cfg.d_head
    widths = {
        "hook_resid_pre": cfg.d_model, "hook_resid_mid": cfg.d_model, "hook_resid_post": cfg.d_model,
        "hook_attn_out": cfg.d_model, "hook_mlp_out": cfg.d_model, "mlp.hook_pre": cfg.d_mlp,
        "mlp.hook_post": cfg.d_mlp, **{f"attn.hook_{name}": heads for name in "qkvz"},
    }  # fmt: skip
    if cfg.normalization_type == "LN":
        widths |= dict.fromkeys(("ln1.hook_normalized", "ln2.hook_normalized"), cfg.d_model)
    known = {
        f"blocks.{i}.{name}": width for i in range(cfg.n_layers) for name, width in widths.items()
    }
    both = (("reads", ends.read, ends.read_width), ("gives", ends.given, ends.given_width))
    for does, hook, width in both:
        if hook not in known:
            return f"it {does} {hook or 'no named activation'}, which no layer of this model has"
        if known[hook] != width:
            return f"it {does} {width} numbers of {hook}, the model has {known[hook]}"
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
    """What stages made of the model itself, and what they trained on its stored activations."""
    from dtx.store.store import Store

    store = Store(root)
    stored = {made for made, *_ in readers(store, {label}, ("activations",))}
    made = [*readers(store, stored, ("dictionary",)), *readers(store, {label}, _ANY)]
    return tuple(root / each for each, *_ in made if any(True for _ in _inside(root / each)))


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


def _mark(folder: Path) -> int:
    return (folder / WEIGHTS).stat().st_mtime_ns


@functools.lru_cache(1_024)
def _ends(folder: Path, mark: int) -> Ends:
    """Kept for each of many dictionaries, whose weights are not."""
    sae = read(folder)
    d, o = (sae.weights[name].shape[axis] for name, axis in (("W_enc", 0), ("W_dec", 1)))
    return Ends(sae.hook_name, d, sae.writes, o)


@functools.lru_cache(8)
def _read(folder: Path, mark: int) -> SparseAutoencoder:
    return read(folder)
