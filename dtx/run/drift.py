"""Which source code a stage stands on, and whether it has changed since an artefact was made.

Code is advisory: it is not in the key, so that a cosmetic edit costs nothing. What is hashed is the stage's
module and what it imports from its own package, without comments, docstrings and layout. Of ``dtx`` itself
the modules at the top (store, report, tracking...) carry results and do not compute them; they do not count,
but for the two that do.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import inspect
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dtx.stage import Stage

_COMPUTING = {"dtx.training.fit", "dtx.statistics"}
_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


def sources(stage: Stage) -> dict[str, Any]:
    """What ``done.json`` keeps: ``{"python": "3.11", "files": {"dtx/agent/ppo/__init__.py": hash, ...}}``."""
    return {"python": _PYTHON, "files": _hashes(type(stage))}


def changed(stage: Stage, recorded: Mapping[str, Any]) -> list[str]:
    """Files that differ from those recorded; none if another Python recorded them (it parses otherwise)."""
    if recorded.get("python") != _PYTHON:
        return []
    now, before = _hashes(type(stage)), recorded["files"]
    return sorted(name for name in now.keys() | before.keys() if now.get(name) != before.get(name))


@functools.cache
def _hashes(cls: type) -> dict[str, str]:
    name, file = cls.__module__, Path(inspect.getfile(cls)).resolve()
    if name == "__main__":
        return {file.name: _read(file)[0]}
    root = file.parents[name.count(".")]
    found: dict[str, str] = {}
    todo = [name]
    while todo:
        module = todo.pop()
        path = _file_of(module, root)
        if path is None or str(path.relative_to(root)) in found or _carries(module, name):
            continue
        digest, imported = _read(path)
        found[str(path.relative_to(root))] = digest
        top = name.split(".")[0]
        todo += [i for i in imported if i.split(".")[0] == top]
    return dict(sorted(found.items()))


def _carries(module: str, start: str) -> bool:
    at_top = module.count(".") <= 1 and module.split(".")[0] == "dtx"
    return at_top and module not in _COMPUTING and module != start


def _file_of(module: str, root: Path) -> Path | None:
    place = root.joinpath(*module.split("."))
    for path in (place.with_suffix(".py"), place / "__init__.py"):
        if path.is_file():
            return path
    return None


@functools.cache
def _read(path: Path) -> tuple[str, tuple[str, ...]]:
    """Hash of a module's code, and the names that it imports, those in functions too."""
    tree = ast.parse(path.read_bytes())
    imported = tuple(_imports(tree))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and _is_text(body[0]):
            node.body = body[1:] or [ast.Pass()]  # type: ignore[attr-defined]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()[:16], imported


def _is_text(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
