"""A user's own classes: Python files of the working folder, which only a config brings in, by ``_target_``.

The working folder is no place for libraries: a file there that is named like one (``yaml.py``) is never
imported. Verbs that run or plan stages take classes from it, the others take nothing (``OWN_CLASSES``).
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

_folder: Path | None = None
_refusal: str | None = None


def look_in(folder: Path, refusal: str | None = None) -> None:
    """Set where own classes are.

    Args:
        folder: The working folder.
        refusal: Why none is imported from there; None: they may be.
    """
    global _folder, _refusal
    _folder, _refusal = folder, refusal


def module_of(name: str) -> ModuleType:
    """The module that a config names: an installed one, else one of the user's own.

    Raises:
        ImportError: There is none, or it may not be imported; and whatever a module raises itself.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        within = not f"{name}.".startswith(f"{error.name}.")  # an import of the module's own failed
        if within or _folder is None or str(_folder) in sys.path or not _is_there(_folder, name):
            raise
    if _refusal is not None:
        raise ImportError(_refusal)
    # From now on, for imports within functions. Last, so that it hides nothing.
    sys.path.append(str(_folder))
    importlib.invalidate_caches()
    return importlib.import_module(name)


def _is_there(folder: Path, name: str) -> bool:
    top = folder / name.partition(".")[0]
    return top.is_dir() or top.with_suffix(".py").is_file()
