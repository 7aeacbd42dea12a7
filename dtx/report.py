"""What a stage hands to the reader: curves, metrics, tables and figures, as files.

A stage never speaks to a tracking server. It writes here, under its own folder; ``dtx.tracking``
mirrors these files to MLflow while the stage runs, and the store keeps them for ever::

    curves.jsonl        one JSON object a logged step: {"step": 300, "loss": 0.41, ...}
    timing.jsonl        the same for speeds and seconds, which differ between two equal runs
    headline.json       metrics named group/name: {"agent/success": 0.98}; analyses write result.json
    tables/NAME.parquet one observation a row
    figures/NAME.png    matplotlib, at most 7 inches wide; NAME.html: interactive, opens offline
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

CURVES, TIMING, HEADLINE = "curves.jsonl", "timing.jsonl", "headline.json"
RESULT = "result.json"
"""What an analysis found: :mod:`dtx.analysis.core.result` writes it."""


@runtime_checkable
class Page(Protocol):
    """A figure that is one HTML file: a plotly figure, or a page of our own."""

    def write_html(self, path: Path, **options: Any) -> Any:
        """Write the file. The options are plotly's; a page of our own ignores them."""
        ...


class Report:
    """Writer of a stage's curves, numbers, tables and figures.

    Args:
        out: The stage's folder.
    """

    def __init__(self, out: Path):
        self.out = out

    def curve(self, step: int, values: Mapping[str, float]) -> None:
        """Append one point to each named curve."""
        _append(self.out / CURVES, step, values)

    def timing(self, step: int, values: Mapping[str, float]) -> None:
        """Append speeds or seconds, kept apart so that two equal runs have equal ``curves.jsonl``."""
        _append(self.out / TIMING, step, values)

    def headline(self, values: Mapping[str, float | None]) -> None:
        """Add scalars to the headline; a value that is not finite is written as missing."""
        path = self.out / HEADLINE
        known = json.loads(path.read_text()) if path.exists() else {}
        known.update({k: _finite(v) for k, v in values.items()})
        write_atomically(path, json.dumps(known, indent=1, sort_keys=True) + "\n")

    def table(self, name: str, frame: pd.DataFrame) -> None:
        """Write a tidy table, one observation a row."""
        path = self.out / "tables" / f"{name}.parquet"
        path.parent.mkdir(exist_ok=True)
        frame.to_parquet(path, index=False)

    def figure(self, name: str, figure: Figure) -> None:
        """Write a matplotlib figure as PNG and close it."""
        import matplotlib.pyplot as plt

        path = self.out / "figures" / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        # No Software field: the file must not depend on anything but the figure.
        figure.savefig(path, dpi=140, metadata={"Software": None})
        plt.close(figure)

    def page(self, name: str, figure: Page) -> None:
        """Write a page or a plotly figure as one HTML file that opens without a network."""
        path = self.out / "figures" / f"{name}.html"
        path.parent.mkdir(exist_ok=True)
        figure.write_html(path, include_plotlyjs=True, full_html=True, div_id=name)

    def position(self) -> int:
        """Bytes of ``curves.jsonl`` so far; goes into a checkpoint."""
        path = self.out / CURVES
        return path.stat().st_size if path.exists() else 0

    def rewind(self, position: int) -> None:
        """Forget curve points written after a checkpoint that is being resumed."""
        path = self.out / CURVES
        if path.exists():
            os.truncate(path, min(position, path.stat().st_size))


def read_metrics(folder: Path) -> dict[str, float | None]:
    """The metrics of an artefact by ``group/name``, empty if it has none; an analysis' group is its name."""
    result = folder / RESULT
    if result.exists():
        recorded = json.loads(result.read_text())
        return {f"{recorded['analysis']}/{name}": v for name, v in recorded["metrics"].items()}
    path = folder / HEADLINE
    return json.loads(path.read_text()) if path.exists() else {}


class Tables(Mapping[str, "pd.DataFrame"]):
    """The tables of an artefact by name, each read when it is asked for.

    Args:
        folder: Of the artefact.
    """

    def __init__(self, folder: Path):
        self._paths = {path.stem: path for path in sorted((folder / "tables").glob("*.parquet"))}

    def __getitem__(self, name: str) -> pd.DataFrame:
        import pandas as pd

        return pd.read_parquet(self._paths[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._paths)

    def __len__(self) -> int:
        return len(self._paths)

    def __repr__(self) -> str:
        return f"tables: {', '.join(self) or 'none'}"


def read_curves(folder: Path, name: str = CURVES) -> list[dict[str, float]]:
    """All complete lines of a curve file."""
    path = folder / name
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines()]


def write_atomically(path: Path, text: str) -> None:
    """Write a small file so that a reader sees the old or the new one, never half of it."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("w") as handle:
        handle.write(text)
        handle.flush()
        os.fsync(handle.fileno())
    partial.replace(path)


def _append(path: Path, step: int, values: Mapping[str, float]) -> None:
    point = {"step": int(step), **{k: _finite(v) for k, v in values.items()}}
    with path.open("a") as handle:
        handle.write(json.dumps(point) + "\n")


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)
