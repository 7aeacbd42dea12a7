"""The page of an analysis, from its result: finding, verdicts, figures, checks, controls, tables.

Every analysis gets one (:meth:`dtx.analysis.core.analysis.Analysis.figures`). A plotly figure is shown on
it; a page of an analysis' own derives from :class:`ResultPage`, its template from
``analysis/core/page.html``.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from dtx import pages
from dtx.analysis.core.result import CLAIMS, Result
from dtx.analysis.core.verdicts import Claim
from dtx.dt.names import renamed

if TYPE_CHECKING:
    import pandas as pd

ROWS = 200
"""Rows of a table on a page; the parquet file beside it has all."""
PICTURES = ("*.png", "*.gif")
"""Figures that are pictures, as file names."""


@dataclass(frozen=True)
class Heading:
    """What stands at the top of a page.

    Attributes:
        name: Of the analysis.
        question: What it asks.
        inputs: Labels of what it read, by field.
    """

    name: str
    question: str
    inputs: Mapping[str, str]


class ResultPage:
    """A page (:class:`dtx.report.Page`) of a result.

    Args:
        result: Of the analysis.
        heading: What stands at the top.
        plot: A plotly figure to be shown on it; None: pictures and tables only.
    """

    template: ClassVar[str] = "analysis/core/page.html"

    def __init__(self, result: Result, heading: Heading, plot: Any = None):
        self.result, self.heading, self.plot = result, heading, plot

    def values(self) -> Mapping[str, Any]:
        """What the template needs beside the result."""
        return {}

    def write_html(self, path: Path, **_: Any) -> None:
        """Write the page into ``figures/``, with the pictures that are there."""
        pages.write(
            path,
            self.template,
            heading=self.heading,
            page=parts_of(self.result, path.parents[1], self.heading.name),
            plot=None if self.plot is None else pages.plot(self.plot, path.stem),
            **self.values(),
        )


@dataclass(frozen=True)
class Picture:
    """A picture that is in the page's own file.

    Attributes:
        source: A ``data:`` URL. width: In pixels. height: In pixels.
        caption: Its name in words. alt: The same with the analysis, for readers who do not see it.
    """

    source: str
    width: int
    height: int
    caption: str
    alt: str


@dataclass(frozen=True)
class ShownTable:
    """A table on a page.

    Attributes:
        name: Of the table. columns: Names, and whether they hold numbers.
        rows: The first rows; a cell as it is shown, and its exact value where that differs.
        count: Rows of the whole table. link: Where that is, from the page. open: Whether it is unfolded.
    """

    name: str
    columns: list[tuple[str, bool]]
    rows: list[list[tuple[str, str | None]]]
    count: int
    link: str
    open: bool = False


@dataclass(frozen=True)
class Parts:
    """What the macros of ``pages/parts.html`` show of a result.

    Attributes:
        result: The result. reasons: Why nothing is established. pictures: Its figures. tables: Its tables.
    """

    result: Result
    reasons: list[str]
    pictures: list[Picture]
    tables: list[ShownTable]


def parts_of(
    result: Result, folder: Path, name: str, *, rows: int = ROWS, link: str = "../tables"
) -> Parts:
    """A result as a page shows it.

    Args:
        result: The result.
        folder: Of the artefact, for the pictures in its ``figures/``.
        name: Of the analysis.
        rows: Most rows of a table.
        link: From the page to the folder of the tables.
    """
    tables = [_numbers(result, link)] if result.metrics else []
    tables += [
        shown(name, table, rows, link) for name, table in result.tables.items() if name != CLAIMS
    ]
    return Parts(
        worded(result),
        [renamed(why) for why in result.reasons()],
        list(pictures(folder, name)),
        tables,
    )


def worded(result: Result) -> Result:
    """A result with today's names of the model's parts in its sentences."""
    return replace(
        result,
        finding=renamed(result.finding),
        claims=worded_claims(result.claims),
        checks=[replace(check, name=renamed(check.name)) for check in result.checks],
        controls=[replace(control, name=renamed(control.name)) for control in result.controls],
    )


def worded_claims(claims: Iterable[Claim]) -> tuple[Claim, ...]:
    """Claims with today's names of the model's parts."""
    return tuple(
        replace(
            c, text=renamed(c.text), criterion=renamed(c.criterion), evidence=renamed(c.evidence)
        )
        for c in claims
    )


def pictures(folder: Path, of: str) -> Iterator[Picture]:
    """The pictures among an artefact's figures, by name.

    Args:
        folder: Of the artefact. of: Name of the analysis.
    """
    from PIL import Image

    paths = [path for pattern in PICTURES for path in (folder / "figures").glob(pattern)]
    for path in sorted(paths):
        with Image.open(path) as image:
            width, height = image.size
        data = base64.b64encode(path.read_bytes()).decode()
        name = path.stem.replace("_", " ")
        yield Picture(
            f"data:image/{path.suffix[1:]};base64,{data}", width, height, name, f"{of}: {name}"
        )


def shown(name: str, table: pd.DataFrame, rows: int, link: str) -> ShownTable:
    """A table with its first rows in words.

    Args:
        name: Of the table. table: All of it. rows: Most rows to show. link: To the folder of the tables.
    """
    from pandas.api.types import is_bool_dtype, is_numeric_dtype

    kinds = [is_numeric_dtype(kind) and not is_bool_dtype(kind) for kind in table.dtypes]
    columns = [(str(column), bool(kind)) for column, kind in zip(table.columns, kinds, strict=True)]
    cells = [[_cell(v) for v in row] for row in table.head(rows).itertuples(index=False, name=None)]
    return ShownTable(name, columns, cells, len(table), f"{link}/{name}.parquet")


def _numbers(result: Result, link: str) -> ShownTable:
    """The metrics as a table; the file with all of them is the result."""
    rows = [[(name.replace("_", " "), name), _cell(v)] for name, v in result.metrics.items()]
    place = f"{link.removesuffix('tables')}result.json"
    return ShownTable("metrics", [("metric", False), ("value", True)], rows, len(rows), place)


def _cell(value: Any) -> tuple[str, str | None]:
    """A value with four digits or as a whole number, and as it is where that differs; nothing if missing."""
    import pandas as pd

    if value is None or (pd.api.types.is_scalar(value) and pd.isna(value)):
        return "", None
    if isinstance(value, float) and not value.is_integer():
        text = f"{value:.4g}"
        return text, None if float(text) == value else repr(float(value))
    if isinstance(value, float | int) and not isinstance(value, bool) and abs(value) < 1e15:
        return f"{int(value):,}", str(int(value)) if abs(value) >= 1000 else None
    text = renamed(str(value))
    return text, None if text == str(value) else str(value)
