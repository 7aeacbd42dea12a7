"""The analyses that dtx has, found by listing their package: nothing is registered."""

from __future__ import annotations

import functools
import importlib
import pkgutil

from hydra.core.config_store import ConfigStore

from dtx.analysis.core.analysis import Analysis


@functools.cache
def built_in() -> dict[str, type[Analysis]]:
    """Analyses by name. A module or package of ``dtx.analysis`` is one if it defines an analysis."""
    package = importlib.import_module("dtx.analysis")
    classes = {}
    for info in pkgutil.iter_modules(package.__path__):
        module = importlib.import_module(f"dtx.analysis.{info.name}")
        for value in vars(module).values():
            if (
                isinstance(value, type)
                and issubclass(value, Analysis)
                and value.__module__ == module.__name__
            ):
                classes[info.name] = value
    return classes


@functools.cache
def offer_lists() -> None:
    """Offer Hydra the config ``every/scored_analyses``: the YAML of each analysis that is about one model.

    ``conf/analysis/scorecard.yaml`` takes it in, so that no analysis is named there.
    """
    scored = [name for name, analysis in built_in().items() if analysis.scoring is not None]
    node = {"defaults": [*({f"/analysis@{name}": name} for name in scored), "_self_"]}
    ConfigStore.instance().store(group="every", name="scored_analyses", node=node)
