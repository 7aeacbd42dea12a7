"""The structure of the code, read from its imports: circles between modules, probes, long files.

``python -m tests.house`` prints what is found; tests/test_house.py holds it against the rules of
docs/house.md.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
MOST_LINES = 400


def modules() -> dict[str, Path]:
    """All modules of dtx by dotted name; a package is its ``__init__.py``."""
    found = {}
    for path in sorted((ROOT / "dtx").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = path
    return found


def imports(path: Path, known: dict[str, Path]) -> set[str]:
    """The modules that a file imports, in functions and under TYPE_CHECKING too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name in known}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in known else node.module)
    return {name for name in found if name in known}


def graph() -> dict[str, set[str]]:
    """Each module with those that it imports."""
    known = modules()
    return {name: imports(path, known) - {name} for name, path in known.items()}


def circles(edges: dict[str, set[str]]) -> list[list[str]]:
    """Groups of modules that import each other in a circle (strongly connected components)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in sorted(edges[name]):
            if other not in index:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], index[other])
        if low[name] == index[name]:
            circle = []
            while not circle or circle[-1] != name:
                circle.append(stack.pop())
            if len(circle) > 1:
                found.append(sorted(circle))

    sys.setrecursionlimit(10_000)
    for name in sorted(edges):
        if name not in index:
            visit(name)
    return found


def probes() -> Iterator[tuple[str, int, str]]:
    """(file, line, name) of each ``hasattr`` or ``getattr`` with a literal name."""
    for path in modules().values():
        for node in ast.walk(ast.parse(path.read_bytes())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id in ("hasattr", "getattr")
                and len(node.args) > 1
                and isinstance(node.args[1], ast.Constant)
            ):
                yield str(path.relative_to(ROOT)), node.lineno, str(node.args[1].value)


def long_files() -> list[tuple[str, int]]:
    """(file, lines) of Python files over the limit, tests and benchmarks too."""
    files = [
        p
        for top in ("dtx", "tests", "benchmarks", "docs", "experiments")
        for p in (ROOT / top).rglob("*.py")
    ]
    counted = [(str(p.relative_to(ROOT)), p.read_bytes().count(b"\n")) for p in files]
    return sorted(pair for pair in counted if pair[1] > MOST_LINES)


if __name__ == "__main__":
    edges = graph()
    for circle in circles(edges):
        print("circle:", ", ".join(circle))
        for name in circle:
            print("   ", name, "->", ", ".join(sorted(edges[name] & set(circle))))
    for probe in probes():
        print("probe:", *probe)
    for file in long_files():
        print("long:", *file)
