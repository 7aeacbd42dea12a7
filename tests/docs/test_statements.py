"""What README, docs and experiments state is what was recorded: docs/statements.md, row by row."""

from __future__ import annotations

import importlib
import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dtx.statistics import Estimate, enumerated, mean_estimate

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "statements.md"
NUMBER = re.compile(r"(?<![\w.\-])[-+]?(?:\d[\d,]*)?\.?\d+(?![\w])")
MARK = re.compile(r"<!-- results -->\n(.*?)<!-- /results -->", re.S)
"""What stands between these lines of a page is results: each of its numbers needs a row."""


@dataclass(frozen=True)
class Statement:
    """A row of the table.

    Attributes:
        file: Where it stands. text: A part of a sentence with one number, or with one and its interval.
        command: What makes the record. record: Its file, and the name of the numbers of all seeds in it.
        statistic: How one number is made of them.
    """

    file: str
    text: str
    command: str
    record: str
    statistic: str


def statements() -> list[Statement]:
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")][1:]
    return [
        Statement(*(cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1])) for row in rows
    ]


def recorded(statement: Statement) -> Estimate:
    """The number of a statement, with its interval, from the record."""
    path, _, name = statement.record.strip("`").partition(": ")
    by_seed = json.loads((ROOT / path).read_text())
    if isinstance(by_seed, list) and "false" in by_seed[0]:  # negatives: false lines, or claims
        rows = [
            r for r in by_seed if r["false"] and (r["statement"] == "(line)") == (name == "lines")
        ]
        count = sum(r["came_out"] for r in rows) if statement.statistic == "came out" else len(rows)
        return enumerated(count, len(rows), of="statements")
    if isinstance(by_seed, list):  # verdicts of claims: how many seeds have this one
        verdicts = [row["verdict"] for row in by_seed if row["says"] == name]
        return enumerated(verdicts.count(statement.statistic), len(verdicts), of="seeds")
    values = np.array([seed[name] for seed in by_seed.values()], float)
    assert not np.isnan(values).any(), f"{statement.record}: a seed has no number"
    kind, _, limit = statement.statistic.partition(" ")
    of_all = {
        "smallest": values.min(),
        "largest": values.max(),
        "seeds": len(values),
        "sum": values.sum(),
    }
    if kind == "mean":
        return mean_estimate(values, of="seeds")
    if limit:  # "seeds >= 1"
        relation, number = limit.split()
        holds = {"<=": values <= float(number), ">=": values >= float(number)}[relation]
        return enumerated(holds.sum(), len(values), of="seeds")
    return enumerated(of_all[kind], len(values), of="seeds")


def numbers(text: str) -> list[tuple[float, int]]:
    """Numbers in a text, with how many decimals they are given."""
    found = [n.replace(",", "") for n in NUMBER.findall(text)]
    return [(float(n), len(n.partition(".")[2])) for n in found]


def agrees(printed: tuple[float, int], value: float) -> bool:
    """Whether a number is the printed one, rounded as that is."""
    number, decimals = printed
    return abs(number - value) <= 0.5 * 10**-decimals + 1e-9


@pytest.mark.parametrize("statement", statements(), ids=lambda s: f"{s.file}: {s.text[:50]}")
def test_a_statement_is_its_recorded_number(statement: Statement):
    page = " ".join((ROOT / statement.file).read_text().split())
    assert " ".join(statement.text.split()) in page, f"{statement.file} does not say so any more"
    printed, value = numbers(statement.text), recorded(statement)
    assert len(printed) in (1, 3), "quote one number, or one with its interval"
    wanted = (value.value, value.low, value.high)[: len(printed)]
    for number, is_now in zip(printed, wanted, strict=True):
        assert agrees(number, is_now), (
            f"{statement.text}: {number[0]:g}, but the record has {is_now:.4g}"
        )
    script = statement.command.strip("`").split()[-1]
    assert (ROOT / script).exists() or script.startswith("experiment="), statement.command


@pytest.mark.parametrize("file", ["README.md", "experiments/memory_dt/README.md", "docs/index.md"])
def test_every_number_among_the_results_has_a_statement(file: str):
    quoted = [" ".join(s.text.split()) for s in statements() if s.file == file]
    for part in MARK.findall((ROOT / file).read_text()):
        rest = " ".join(part.split())
        for text in sorted(quoted, key=len, reverse=True):
            rest = rest.replace(text, " ")
        # Targets and criteria are no results: they stand in backquotes.
        rest = re.sub(r"`[^`]*`|\(http[^)]*\)|\[[^\]]*\]\([^)]*\)|!\[[^\]]*\]\([^)]*\)", " ", rest)
        assert not NUMBER.findall(rest), f"{file}: no row for {NUMBER.findall(rest)} in: {rest}"
    if file != "docs/index.md":
        assert MARK.search((ROOT / file).read_text()), f"{file} marks no results"


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("memory_dt", "results"),
        ("memory_dt_26", "results"),
        ("memory_dt", "ceiling"),
        ("memory_dt", "first_recipe"),
        ("memory_dt", "resampled"),
    ],
)
def test_the_table_of_results_is_made_of_the_record(folder: str, name: str, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "experiments" / "memory_dt")
    study = importlib.import_module("study")
    place = ROOT / "experiments" / folder
    table = pd.DataFrame(json.loads((place / f"{name}.json").read_text()))
    assert (place / f"{name}.md").read_text() == study.markdown(table)


def test_the_table_of_screening_is_its_record():
    place = ROOT / "experiments" / "memory_dt"
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in (place / "README.md").read_text().splitlines()
        if re.match(r"\|[^|]*\| 100\d \|", line)
    ]
    record = json.loads((place / "screening.json").read_text())
    assert len(rows) == len(record)
    for row, run in zip(rows, record, strict=True):
        assert row[0] in ("", run["training"]) and int(row[1]) == run["seed"]
        values = [run[name] for name in ("return at 0", "junction", "distance", "CPU-s")]
        for (printed,), value in zip(map(numbers, row[2:]), values, strict=True):
            assert agrees(printed, value), (row, run)


def test_a_number_that_has_changed_is_seen():
    """The instrument itself: a statement that is off by one in the last place fails."""
    assert agrees((0.38, 2), 0.3751) and not agrees((0.38, 2), 0.3849 + 0.002)
    assert numbers("is .004 [.001, .007] in 9 of them, 1,234 times") == [
        (0.004, 3), (0.001, 3), (0.007, 3), (9.0, 0), (1234.0, 0),
    ]  # fmt: skip
