"""The rules of docs/house.md, over all imports: in functions and under TYPE_CHECKING too."""

from __future__ import annotations

import pytest

from tests.house import circles, graph, long_files, probes

EDGES = graph()
LAYERS = {
    "env": 0,
    "agent": 1,
    "dataset": 1,
    "dt": 2,
    "pairs": 3,
    "activations": 3,
    "dictionary": 4,
    "analysis": 5,
}
"""What computes, from the bottom up: a lower package imports no higher one."""
FOREIGN: dict[str, set[str]] = {}
"""Probes of objects that are not dtx's own, by file: each has a comment there that says whose they are."""


def parts(module: str) -> list[str]:
    return module.split(".")


def test_there_are_no_import_circles():
    assert circles(EDGES) == []


def test_circles_are_found():
    edges = {"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}, "e": set()}
    assert circles(edges) == [["a", "b", "c"]]


def test_lower_layers_import_no_higher_ones():
    def layer(module: str) -> int | None:
        return LAYERS.get(parts(module)[1]) if "." in module else None

    wrong = [
        f"{module} imports {other}"
        for module, others in EDGES.items()
        for other in others
        if None not in (a := layer(module), b := layer(other)) and a < b  # type: ignore[operator]
    ]
    assert wrong == []


def analyses() -> list[str]:
    names = {parts(m)[2] for m in EDGES if m.startswith("dtx.analysis.") and len(parts(m)) > 3}
    return sorted(names - {"core"})


@pytest.mark.parametrize("name", analyses())
def test_an_analysis_declares_and_nothing_imports_the_declaration_back(name):
    """declaration -> compute, plots, truth, page -> spec, core."""
    package = f"dtx.analysis.{name}"
    inner = {module for module in EDGES if module.startswith(f"{package}.")}
    back = {module for module in inner if package in EDGES[module]}
    assert not back, f"{sorted(back)} import the declaration"
    drawing = {f"{package}.{part}" for part in ("plots", "page", "truth")}
    for module in inner - drawing:
        assert not EDGES[module] & drawing, f"{module} computes and imports what draws"
    if f"{package}.spec" in EDGES:
        assert not EDGES[f"{package}.spec"] & (inner - {f"{package}.spec"})


def test_core_knows_no_analysis():
    core = [module for module in EDGES if module.startswith("dtx.analysis.core")]
    known = {f"dtx.analysis.{name}" for name in analyses()}
    for module in core:
        others = {other for other in EDGES[module] if ".".join(parts(other)[:3]) in known}
        assert not others, f"{module} imports {sorted(others)}"


def test_capabilities_of_own_objects_are_declared_not_probed():
    found = [p for p in probes() if p[2] not in FOREIGN.get(p[0], set())]
    assert found == []
    there = {(file, name) for file, _, name in probes()}
    listed = {(file, name) for file, names in FOREIGN.items() for name in names}
    assert listed <= there, "a probe that is gone stays allowed"


def test_files_are_short():
    assert long_files() == []
