"""Files of an artefact for what Minari's format has and our columns do not.

::

    minari.json     spaces, environment spec, metadata, and the digest of the episodes
    ends.feather    one row an episode: observation after the last action (row of observations.arrow),
                    terminated, truncated, seed
    moments.feather one row an observation, the last one of an episode too: what the policy saw beside the
                    image (direction, mission), and rewards that float32 cannot hold; absent if empty
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from dtx.dataset.reading import OBSERVATION_SHAPE
from dtx.errors import UserError
from dtx.files import MOST_BYTES, read_json
from dtx.report import write_atomically

FACTS, ENDS, MOMENTS = "minari.json", "ends.feather", "moments.feather"
OWN = "dtx"
"""Key of Minari's metadata for what we write there: lineage, and the table of observations."""
TOOLS = "needs Minari and h5py: pip install 'dtx[minari]'"


def minari() -> ModuleType:
    """The package, or a UserError that says how to get it."""
    try:
        import h5py  # noqa: F401  Minari's own format
        import minari
    except ImportError as error:
        raise UserError(f"this {TOOLS} ({error})") from None
    return minari


def read_facts(folder: Path) -> dict[str, Any]:
    """Content of ``minari.json``."""
    return read_json(folder / FACTS)


def write_facts(folder: Path, facts: Mapping[str, Any]) -> None:
    """Write ``minari.json``."""
    write_atomically(folder / FACTS, json.dumps(facts, indent=1, ensure_ascii=False) + "\n")


def write_columns(path: Path, columns: Mapping[str, Any]) -> None:
    """Arrow columns as one file; text is stored once a distinct value."""
    import pyarrow as pa
    from pyarrow import feather

    arrays = {
        name: pa.array(values).dictionary_encode() if isinstance(values, list) else pa.array(values)
        for name, values in columns.items()
    }
    feather.write_feather(pa.table(arrays), str(path), compression="lz4")


def read_columns(path: Path) -> dict[str, Any]:
    """What :func:`write_columns` wrote: numpy columns, text as lists."""
    import pyarrow as pa
    from pyarrow import feather

    table = feather.read_table(str(path))
    columns = {}
    for name in table.column_names:
        column = table.column(name)
        is_text = pa.types.is_dictionary(column.type)
        columns[name] = column.to_pylist() if is_text else column.to_numpy()
    return columns


def packed(observations: np.ndarray) -> str:
    """A table of observations as text for Minari's metadata."""
    return base64.b64encode(zlib.compress(np.ascontiguousarray(observations).tobytes(), 9)).decode()


def unpacked(text: str) -> np.ndarray:
    """(u, 7, 7, 3) uint8: what :func:`packed` packed."""
    inflate = zlib.decompressobj()
    content = inflate.decompress(base64.b64decode(text), MOST_BYTES)
    if not inflate.eof:
        raise ValueError(
            f"the table of observations is cut off or has more than {MOST_BYTES:,} bytes"
        )
    return np.frombuffer(content, np.uint8).reshape(-1, *OBSERVATION_SHAPE)
