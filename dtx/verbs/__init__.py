"""The verbs of the command line, one file each; every module without a leading underscore is one.

A verb's file has a docstring (its first line is the help text), ``EXAMPLES``, ``OWN_CLASSES``,
``arguments(parser)`` and ``main(args)``, which returns the exit status. Nothing heavy is imported before
``main``. ``OWN_CLASSES`` says whether classes that the user's configs name are imported from the working
folder: only by verbs that run stages, or say what would run.
"""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType


def names() -> list[str]:
    """The names of all verbs."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_"))


def module_of(verb: str) -> ModuleType:
    """The module of a verb."""
    return importlib.import_module(f"{__name__}.{verb}")
