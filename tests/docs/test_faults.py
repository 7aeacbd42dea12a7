"""The list of kinds of faults, and what is said of security: every test that they name is there."""

import re

import pytest

from tests.docs.pages import ROOT


@pytest.mark.parametrize("page", ["docs/concepts/faults.md", "SECURITY.md"])
def test_tests_that_are_named_are_there(page):
    named = re.findall(r"`(tests/[\w/.]+)`", (ROOT / page).read_text())
    assert len(named) >= 8
    assert not [name for name in named if not (ROOT / name).exists()]


def test_every_kind_is_told_with_where_it_is_from():
    text = (ROOT / "docs/concepts/faults.md").read_text()
    rows = re.findall(r"^\| (\d+)\. (.+) \|$", text, re.M)
    assert [int(number) for number, _ in rows] == list(range(1, 23))
    assert all(len([cell for cell in row.split(" | ") if cell.strip()]) == 4 for _, row in rows)
