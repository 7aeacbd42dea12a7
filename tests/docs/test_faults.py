"""The list of kinds of faults and what is said of security: named tests are there, numbers are on record."""

import json
import re
from typing import Any

import pytest

from tests.docs.pages import ROOT

PAGE = ROOT / "docs/concepts/faults.md"
RECORDS = ROOT / "experiments/faults"


@pytest.mark.parametrize("page", ["docs/concepts/faults.md", "SECURITY.md"])
def test_tests_that_are_named_are_there(page):
    named = re.findall(r"`(tests/[\w/.]+)`", (ROOT / page).read_text())
    assert len(named) >= 8
    assert not [name for name in named if not (ROOT / name).exists()]


def test_every_kind_is_told_with_where_it_is_from():
    rows = re.findall(r"^\| (\d+)\. (.+) \|$", PAGE.read_text(), re.M)
    assert [int(number) for number, _ in rows] == list(range(1, 23))
    assert all(len([cell for cell in row.split(" | ") if cell.strip()]) == 4 for _, row in rows)


def recorded(name: str) -> dict[str, Any]:
    return json.loads((RECORDS / f"{name}.json").read_text())


def test_what_was_fuzzed_is_on_record():
    kinds = [recorded("fuzz")[kind] for kind in ("overrides", "lines", "files")]
    commands, wrong = (sum(kind[name] for kind in kinds) for name in ("commands", "wrong"))
    most = {n: max(kind[n] for kind in kinds) for n in ("most_seconds", "most_megabytes_more")}
    assert [kind["commands"] for kind in kinds] == [2000, 500, 500]
    told = (
        f"{commands:,} commands on {recorded('fuzz')['date']}: {wrong} wrong; the slowest took "
        f"{most['most_seconds']:.1f} s, the largest {most['most_megabytes_more']} MB"
    )
    assert told in PAGE.read_text()


def test_what_was_harmed_is_on_record():
    both = [recorded(f"chaos_{seed}") for seed in (200, 201)]
    events, files, wrong = (sum(r[n] for r in both) for n in ("events", "files_compared", "wrong"))
    told = (
        f"{events} events on {both[0]['date']}: {files:,} files compared with those of undisturbed "
        f"commands; something was wrong after {wrong}"
    )
    assert events >= 200 and told in PAGE.read_text()
