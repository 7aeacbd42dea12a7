"""The files that a stage writes for its readers: curves, metrics, tables and figures.

A stage never contacts a tracking server. It writes files under its own folder; :mod:`dtx.tracking` copies
them to MLflow while the stage runs, and the store keeps them::

    curves.jsonl        one JSON object a logged step: {"step": 300, "loss": 0.41, ...}
    timing.jsonl        the same for speeds and seconds, which differ between two equal runs
    headline.json       metrics named group/name: {"agent/success": 0.98}; analyses write result.json
    tables/NAME.parquet one observation a row
    figures/NAME.png    matplotlib, at most 7 inches wide; NAME.html: a page, opens offline; NAME.gif
"""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from dtx import pages
from dtx.errors import UnknownName
from dtx.files import DamagedFileError, read_json, read_lines, read_table, taken_from
from dtx.text import discreet, file_name, suggest

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

CURVES, TIMING, HEADLINE = "curves.jsonl", "timing.jsonl", "headline.json"
RESULT = "result.json"
"""The result of an analysis; :mod:`dtx.analysis.core.result` writes and reads it."""


@runtime_checkable
class Page(Protocol):
    """A figure that is one HTML file: a plotly figure, or an object that writes its own page."""

    def write_html(self, path: Path) -> Any:
        """Write the file."""
        ...


@runtime_checkable
class Animation(Protocol):
    """A figure that moves."""

    def write_gif(self, path: Path) -> None:
        """Write the file."""
        ...


_Show = Callable[[Path, int, Mapping[str, float]], None]
_shown_to: ContextVar[_Show | None] = ContextVar("who is shown curves", default=None)


@contextlib.contextmanager
def curves_shown_to(show: _Show) -> Iterator[None]:
    """Call ``show(folder, step, values)`` for every point of a curve that is written in the block."""
    token = _shown_to.set(show)
    try:
        yield
    finally:
        _shown_to.reset(token)


class Report:
    """Writer of a stage's curves, numbers, tables and figures.

    Args:
        out: The folder that the stage's ``run`` is given.
    """

    def __init__(self, out: Path):
        self.out = out

    def curve(self, step: int, values: Mapping[str, float]) -> None:
        """Append one point to each named curve.

        Args:
            step: Position on the horizontal axis: frames, gradient steps.
            values: By curve, ``group/name``. A value that is not finite is written as missing.
        """
        _append(self.out / CURVES, step, values)
        if (show := _shown_to.get()) is not None:
            show(self.out, step, values)

    def timing(self, step: int, values: Mapping[str, float]) -> None:
        """Append speeds or seconds, in a file of their own: equal runs have equal ``curves.jsonl``."""
        _append(self.out / TIMING, step, values)

    def headline(self, values: Mapping[str, float | None]) -> None:
        """Add metrics to those that the stage has written, by ``group/name``.

        A value that is not finite is written as missing. An analysis returns its metrics in a result instead.
        """
        path = self.out / HEADLINE
        try:
            known = read_json(path)
            known.keys()
        except (
            OSError,
            ValueError,
            AttributeError,
        ):  # none yet, or of a session that a power cut ended
            known = {}
        known.update({k: _finite(v) for k, v in values.items()})
        write_atomically(path, json.dumps(known, indent=1, sort_keys=True) + "\n")

    def table(self, name: str, frame: pd.DataFrame) -> None:
        """Write a tidy table, one observation per row, as ``tables/NAME.parquet``."""
        path = self.out / "tables" / f"{file_name(name)}.parquet"
        path.parent.mkdir(exist_ok=True)
        frame.to_parquet(path, index=False)

    def figure(self, name: str, figure: Figure) -> None:
        """Write a matplotlib figure as ``figures/NAME.png`` and close it."""
        import matplotlib.pyplot as plt

        path = self.out / "figures" / f"{file_name(name)}.png"
        path.parent.mkdir(exist_ok=True)
        # No Software field: the file must not depend on anything but the figure.
        figure.savefig(path, dpi=140, metadata={"Software": None})
        plt.close(figure)

    def page(self, name: str, figure: Page) -> None:
        """Write a page or a plotly figure as ``figures/NAME.html``, which opens without a network.

        A plotly figure reads plotly's script from the store (:mod:`dtx.pages`).
        """
        path = self.out / "figures" / f"{file_name(name)}.html"
        path.parent.mkdir(exist_ok=True)
        if pages.is_plotly(figure):
            pages.write(path, "pages/plot.html", drawn=pages.plot(figure, name))
        else:
            figure.write_html(path)

    def animation(self, name: str, animation: Animation) -> None:
        """Write an animation as ``figures/NAME.gif``, which every browser, MLflow and Markdown show."""
        path = self.out / "figures" / f"{file_name(name)}.gif"
        path.parent.mkdir(exist_ok=True)
        animation.write_gif(path)

    def position(self) -> int:
        """Bytes of ``curves.jsonl`` so far, to be kept in a checkpoint for :meth:`rewind`."""
        path = self.out / CURVES
        return path.stat().st_size if path.exists() else 0

    def rewind(self, position: int) -> None:
        """Remove curve points that were written after the checkpoint that is being resumed.

        Speeds are kept as they are, unless a power cut has left what is none.
        """
        path = self.out / CURVES
        if path.exists():
            os.truncate(path, min(position, path.stat().st_size))
        path = self.out / TIMING
        try:
            read_curves(self.out, TIMING)
        except DamagedFileError:
            path.unlink()
        if path.exists():  # a line that was cut off would become a part of the next one
            os.truncate(path, path.read_bytes().rfind(b"\n") + 1)


def read_metrics(folder: Path) -> dict[str, float | None]:
    """The metrics of an artefact by ``group/name``, empty if it has none. An analysis's group is its name."""
    result = folder / RESULT
    if result.exists():
        recorded = read_json(result)
        with taken_from(result):
            return _numbers(
                {f"{recorded['analysis']}/{name}": v for name, v in recorded["metrics"].items()}
            )
    path = folder / HEADLINE
    if not path.exists():
        return {}
    with taken_from(path):
        return _numbers(read_json(path))


def _numbers(metrics: Mapping[str, Any]) -> dict[str, float | None]:
    for name, value in metrics.items():
        if not (value is None or isinstance(value, (int, float))):
            raise ValueError(f"{name} is {str(value)[:50]!r}, not a number")
    return dict(metrics)


class Tables(Mapping[str, "pd.DataFrame"]):
    """The tables of an artefact by name, each read on access.

    Args:
        folder: Of the artefact.
    """

    def __init__(self, folder: Path):
        self._paths = {path.stem: path for path in sorted((folder / "tables").glob("*.parquet"))}

    def __getitem__(self, name: str) -> pd.DataFrame:
        if name not in self._paths:
            raise UnknownName(f"no table {name!r}{suggest(name, list(self))}")
        return read_table(self._paths[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._paths)

    def __len__(self) -> int:
        return len(self._paths)

    def __repr__(self) -> str:
        return f"tables: {', '.join(self) or 'none'}"


def read_curves(folder: Path, name: str = CURVES) -> list[dict[str, float]]:
    """All complete lines of a curve file.

    Raises:
        DamagedFileError: One is no point: a step, and numbers by name.
    """
    path = folder / name
    if not path.exists():
        return []
    with taken_from(path):
        points = [_numbers(point) for point in read_lines(path)]
        return [{"step": int(point["step"]), **point} for point in points]  # type: ignore[arg-type]


def write_atomically(path: Path, text: str) -> None:
    """Replace a small file in one step: readers see the old or the new content, never a part.

    A power cut leaves one of the two as well, and no secret of a URL is written.
    """
    partial = path.with_name(path.name + ".partial")
    if partial.is_symlink():  # planted in a folder that others write in: it would lead elsewhere
        partial.unlink()
    with partial.open("w", encoding="utf-8") as handle:
        handle.write(discreet(text))
        handle.flush()
        os.fsync(handle.fileno())
    partial.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Have the disk know the names in a folder: a renamed file is there after a power cut, too."""
    with contextlib.suppress(OSError):  # not every file system can
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _append(path: Path, step: int, values: Mapping[str, float]) -> None:
    point = {"step": int(step), **{k: _finite(v) for k, v in values.items()}}
    with path.open("a") as handle:
        handle.write(json.dumps(point) + "\n")


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)
