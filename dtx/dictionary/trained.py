"""The dictionaries of an artefact: one line each, and each by its name.

::

    <name>/cfg.json, <name>/sae_weights.safetensors  SAELens's files, one folder a dictionary
    <name>/cfg.json, <name>/crosscoder.safetensors   of crosscoders instead
    tables/dictionaries.parquet                      one line a dictionary: :attr:`Dictionaries.frame`
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from dtx.dictionary import crosscoder_files, sae_files
from dtx.dictionary.autoencoder import SparseAutoencoder
from dtx.dictionary.crosscoder_files import Crosscoder
from dtx.errors import UnknownName
from dtx.report import Tables
from dtx.text import suggest

if TYPE_CHECKING:
    import pandas as pd

TABLE = "dictionaries"
COLUMNS = ("name", "hook", "width", "sparsity", "seed", "how")
"""Of the table, first; numbers follow: ``l0``, ``explained_variance``, ``dead_share``, ``loss``."""


def name_of(hook: str, width: int, sparsity: float, seed: int, how: str) -> str:
    """Name of a dictionary: ``blocks.1.hook_resid_post-1024-16-0``; of a control with its way behind it."""
    more = "" if how == "trained" else f"-{how}"
    return f"{hook}-{width}-{sparsity:g}-{seed}{more}"


Kind = TypeVar("Kind", SparseAutoencoder, Crosscoder)


class Trained(Generic[Kind]):
    """All dictionaries of an artefact.

    Args:
        folder: Of the artefact.
    """

    def __init__(self, folder: Path):
        self.folder = folder

    @cached_property
    def frame(self) -> pd.DataFrame:
        """One line a dictionary, in the order of the settings.

        ``name``; ``hook``; ``width``: features; ``sparsity``: the setting (k, or the penalty's weight);
        ``seed``; ``how``: what was trained. On the held-out rows, each counted as often as it occurs:
        ``l0``: features a token; ``explained_variance``; ``dead_share``: features that are never on.
        """
        return Tables(self.folder)[TABLE]

    @property
    def names(self) -> list[str]:
        """Of all, in the order of :attr:`frame`."""
        return self.frame["name"].tolist()

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __getitem__(self, name: str) -> Kind:
        """A dictionary, in float32.

        Raises:
            UnknownName: There is none of that name, with a suggestion.
            UserError: Its files are damaged.
        """
        if name not in self.names:
            raise UnknownName(f"no dictionary {name!r}{suggest(name, self.names)}")
        return self.read(self.folder / name)

    def read(self, folder: Path) -> Kind:
        """A dictionary's files."""
        raise NotImplementedError


class Dictionaries(Trained[SparseAutoencoder]):
    """Autoencoders, or transcoders: their :attr:`frame` has a column ``hook_out`` more, what they give."""

    def read(self, folder: Path) -> SparseAutoencoder:
        """As :func:`dtx.dictionary.sae_files.read`."""
        return sae_files.read(folder)


class Crosscoders(Trained[Crosscoder]):
    """Crosscoders.

    Their :attr:`frame` has further columns: ``explained_variance_0``, ...: of each source; ``exclusive``:
    share of the features on in held-out rows of which one source has at least nine tenths.
    """

    def read(self, folder: Path) -> Crosscoder:
        """As :func:`dtx.dictionary.crosscoder_files.read`."""
        return crosscoder_files.read(folder)
