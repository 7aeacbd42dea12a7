"""Which source code a stage's files depend on, and whether it has changed since an artefact was made.

Code is advisory: it is not in the key, so that a cosmetic edit costs nothing. What is hashed is the stage's
module and what it imports, directly or not, from its own package, without comments, docstrings and layout.
Of ``dtx`` only what computes counts (:data:`COMPUTING`): code that composes, stores, tracks, prints or draws
does not change the numbers.
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

LAYOUT = 1
"""Version of the arrangement of files. Raise it when modules of ``dtx`` move or are split, or when
:data:`COMPUTING` or :data:`DRAWING` change: records of another layout are not compared, so that a move is not
reported as changed code everywhere. Records from before layouts were numbered have none."""

COMPUTING = (
    "dtx.activations",
    "dtx.agent",
    "dtx.analysis",
    "dtx.dataset",
    "dtx.dt",
    "dtx.env",
    "dtx.exchange.published",  # converts models and trajectories that others published
    "dtx.pairs",
    "dtx.statistics",
    "dtx.training.fit",
)
"""Modules and packages of ``dtx`` whose code decides what stands in an artefact."""

DRAWING = ("plots", "page", "pages", "pictures", "truth")
"""Last parts of the names of modules, in the packages of analyses and pairs, that draw what was computed
(``attention_page`` is one, too) or compare it with a known circuit, for the scorecard. What only they import
does not count either."""

_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
_DRAWN_IN = ("dtx.analysis.", "dtx.pairs.")
_KINDS_OF_TRUTH = "dtx.analysis.core.truth"  # the scorecard computes with it
_WITH_DOCSTRING = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def sources(stage: Stage) -> dict[str, Any]:
    """What ``done.json`` keeps: ``{"python": "3.11", "layout": 1, "files": {"dtx/dt/model.py": hash}}``."""
    return {"python": _PYTHON, "layout": LAYOUT, "files": _hashes(type(stage))}


def changed(stage: Stage, recorded: Mapping[str, Any]) -> list[str]:
    """Files that differ from those recorded.

    None if the record cannot be compared: another Python (it parses otherwise) or another layout wrote it.
    """
    if recorded.get("python") != _PYTHON or recorded.get("layout") != LAYOUT:
        return []
    now, before = _hashes(type(stage)), recorded.get("files", {})
    return sorted(name for name in now.keys() | before.keys() if now.get(name) != before.get(name))


def closure(module: str, root: Path) -> dict[str, str]:
    """Hashes of the files that a stage's module depends on, by path relative to ``root``.

    Args:
        module: Dotted name of the module that defines the stage; it counts whatever it is.
        root: Folder that holds the module's top package.
    """
    top = module.split(".")[0]
    hashes: dict[str, str] = {}
    seen: set[str] = set()
    todo = [module]
    while todo:
        name = todo.pop()
        path = _file_of(name, root)
        if name in seen or path is None or not (name == module or _counts(name)):
            continue
        seen.add(name)
        digest, imported = read_code(path)
        hashes[str(path.relative_to(root))] = digest
        todo += [other for other in imported if other.split(".")[0] == top]
    return dict(sorted(hashes.items()))


@functools.cache
def _hashes(cls: type) -> dict[str, str]:
    module, file = cls.__module__, Path(inspect.getfile(cls)).resolve()
    if module == "__main__":
        return {file.name: read_code(file)[0]}
    depth = module.count(".") + (file.name == "__init__.py")
    return closure(module, file.parents[depth])


def _counts(module: str) -> bool:
    """Whether a module that a stage imports decides what stands in the artefact; a user's own always does."""
    if module.split(".")[0] != "dtx":
        return True
    last = module.rpartition(".")[2]
    draws = module.startswith(_DRAWN_IN) and (last in DRAWING or last.endswith("_page"))
    if draws and module != _KINDS_OF_TRUTH:
        return False
    return any(f"{module}.".startswith(f"{name}.") for name in COMPUTING)


def _file_of(module: str, root: Path) -> Path | None:
    place = root.joinpath(*module.split("."))
    for path in (place.with_suffix(".py"), place / "__init__.py"):
        if path.is_file():
            return path
    return None


@functools.cache
def read_code(path: Path) -> tuple[str, tuple[str, ...]]:
    """Hash of a module's code, and the names that it imports, in functions and for types too."""
    tree = ast.parse(path.read_bytes())
    imported = tuple(_imports(tree))
    for node in ast.walk(tree):
        if isinstance(node, _WITH_DOCSTRING) and node.body and _is_text(node.body[0]):
            node.body = node.body[1:] or [ast.Pass()]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()[:16], imported


def _is_text(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _imports(tree: ast.AST) -> Iterator[str]:
    """Absolute imports; ``from a import b`` gives ``a`` and ``a.b``, for ``b`` may be a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
