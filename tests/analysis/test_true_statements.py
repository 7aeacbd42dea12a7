"""No analysis says anything false about a model whose circuit is known: true, or not established."""

from __future__ import annotations

import dataclasses
from fnmatch import fnmatchcase
from typing import Any

import pytest

from dtx.analysis.core.analysis import Analysis
from dtx.analysis.core.patching_spec import Node
from dtx.analysis.scorecard import Scorecard
from dtx.analysis.scorecard.claims import TRUTHS
from dtx.config.compose import build_group
from dtx.dataset.dataset import Dataset
from dtx.running.runner import run

QUICK = ("harder", "redundant_heads", "mean_reward_to_go", "silent_head")
"""Of whose circuit an analysis might say what is not true."""


@pytest.fixture(scope="module")
def whole() -> Scorecard:
    return build_group("analysis/scorecard", ["pairs.dataset=null"])


def on(value: Any, dataset: Dataset) -> Any:
    """The same settings with other demonstrations, wherever they name some."""
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return value
    changes = {}
    for field in dataclasses.fields(value):
        old = getattr(value, field.name)
        if field.name == "dataset" and old is not None:
            changes[field.name] = dataset
        elif field.name in ("windows", "paths", "ablation"):
            changes[field.name] = on(old, dataset)
    return dataclasses.replace(value, **changes) if changes else value  # type: ignore[type-var]


def asked(
    whole: Scorecard, models: tuple[str, ...], analyses: dict[str, Analysis], rollouts: Dataset
) -> Scorecard:
    """A scorecard of compiled models alone."""
    return dataclasses.replace(
        whole,
        known={name: whole.known[name] for name in models},
        negatives={},
        analyses={name: on(analysis, rollouts) for name, analysis in analyses.items()},
        skip={name: ("teacher",) for name in models if "teacher" in analyses},
    )


def statements(card: Scorecard, experiment_of) -> tuple[list[str], int]:
    """What is false of what was said, and how many statements there were."""
    run(experiment_of(card))
    result = card.result()
    gates = result.tables["gates"]
    held = gates[gates["gate"] == "statements"]
    false = held[~held["holds"].astype(bool)]
    said = result.tables["answers"]
    made = (said["part"] == "claims") & (said["score"] > 0)
    words = [f"{r.analysis} on {r.model}: {r.found}" for r in false.itertuples()]
    return words, int(made.sum())


def test_patching_says_nothing_false_about_hard_circuits(whole, rollouts, store, experiment_of):
    patching = dataclasses.replace(
        whole.analyses["activation_patching"],  # type: ignore[type-var]
        nodes=(Node.resid_pre, Node.attn_out, Node.mlp_out),
    )
    card = asked(whole, QUICK, {"activation_patching": patching}, rollouts)
    false, _ = statements(card, experiment_of)
    assert not false


@pytest.mark.slow  # every analysis on thirteen compiled models: minutes
def test_no_analysis_says_anything_false_about_compiled_models(
    whole, rollouts, store, experiment_of
):
    models = tuple(name for name in whole.known if name != "interchange")
    assert len(models) >= 10
    card = asked(whole, models, dict(whole.analyses), rollouts)
    false, made = statements(card, experiment_of)
    assert not false
    assert made >= len(models)  # they are not silent either
    # Of each claim about a model it is known whether it is true, or that this is left open.
    for cell in card.cells:
        for claim in cell.stage.result().claims:
            if claim.about.needs_control and cell.analysis != "steering":
                known = TRUTHS.get(cell.analysis, {})
                assert any(fnmatchcase(claim.id, id) for id in known), (cell.analysis, claim.id)
