"""What the analyses in the store found for this model, and what they all say of one head, MLP or neuron."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from dtx.analysis.core.result import Result
from dtx.analysis.report.lines import status
from dtx.app.moment import Moment
from dtx.app.panels import IDLE, WORLD, text
from dtx.app.stored import Found, analyses_of, node_effects, reports_of, where
from dtx.dt.names import part_of
from dtx.errors import UserError
from dtx.text import suggest

TITLE = "Stored results"
WHEN = IDLE
NEEDS = (WORLD,)
CONTROL = "Each analysis has its own; where a control or check failed, its line says so and which."
SOURCE = "dtx.analysis.core.result.Result.read"
DOC = "explorer.md#stored-results"
FIRST = False
SIZE = "wide"
NUMBERS = 6
"""Headline numbers of an analysis."""


@dataclass(frozen=True)
class Parameters:
    """Attributes: see the help of each."""

    node: str = text(
        "", "A head, MLP or neuron: L1H3, L1 MLP, L1N5; empty: the one that ablation needs most"
    )


def compute(moment: Moment, parameters: Parameters) -> dict[str, Any]:
    """What the store holds on the model at the step of training that is shown.

    Returns:
        ``label``, ``analyses``: name, label, finished, reads (the field in which it reads the model),
        status, why (reasons where not established), finding, numbers (name, value), claims (text, verdict,
        evidence), figures (file names); ``others``: how many are of other steps; ``reports``: label, figures;
        ``node``, ``nodes`` (those with effects), ``effects``: columns analysis, where, what, value, low,
        high, n, interval of that node.

    Raises:
        UserError: The model is in no store, nothing is stored on it, or nothing on that node.
    """
    _, chosen = where(moment)
    everything = analyses_of(moment)
    mine = [found for found in everything if found.checkpoint == chosen.step]
    if not mine:
        step = "" if chosen.step is None else f" at step {chosen.step}"
        raise UserError(
            f"the store holds no analysis of {chosen.entry.label}{step}: "
            "`dtx run analysis=[attention]` adds one"
        )
    effects = node_effects(mine)
    node = _node(parameters.node, effects)
    return {
        "label": chosen.entry.label,
        "analyses": [_analysis(found) for found in mine],
        "others": len(everything) - len(mine),
        "reports": [
            {"label": found.label, "figures": found.figures} for found in reports_of(moment)
        ],
        "node": node,
        "nodes": list(dict.fromkeys(effects.node)),
        "effects": _columns(effects[effects.node == node]),
    }


def _analysis(found: Found) -> dict[str, Any]:
    result = found.result
    return {
        "name": found.name,
        "label": found.label,
        "finished": str(found.record.get("finished", "")),
        "reads": found.field,
        "figures": found.figures,
        **(_described(result) if result is not None else _UNREADABLE),
    }


_UNREADABLE = {"status": "no result", "why": [], "finding": "", "numbers": [], "claims": []}


def _described(result: Result) -> dict[str, Any]:
    known = [(k, v) for k, v in result.metrics.items() if v is not None]
    apart = ("identity_error", "distinct_inputs")
    return {
        "status": status(result),
        "why": list(result.reasons()),
        "finding": result.finding,
        "numbers": [
            {"name": name, "value": float(value)} for name, value in known if name not in apart
        ][:NUMBERS],
        "claims": [
            {"text": claim.text, "verdict": claim.verdict.value, "evidence": claim.evidence}
            for claim in result.claims
        ],
    }


def _node(asked: str, effects: pd.DataFrame) -> str | None:
    """Today's name of the node asked for, or of the one with the largest effect in the first analysis."""
    if not len(effects):
        return None
    if not asked.strip():
        first = effects[effects.analysis == effects.analysis.iloc[0]]
        if "ablation" in set(effects.analysis):
            first = effects[effects.analysis == "ablation"]
        return str(first.loc[first.value.abs().idxmax()].node)
    part = part_of(asked.strip())
    name = asked.strip() if part is None else part.name
    known = list(dict.fromkeys(effects.node))
    if name not in known:
        raise UserError(
            f"stored.node: no analysis in the store has an effect of {asked!r}{suggest(name, known)}"
        )
    return name


def _columns(effects: pd.DataFrame) -> dict[str, Any]:
    numbers = {
        name: effects[name].to_numpy(np.float64, na_value=np.nan)
        for name in ("value", "low", "high", "n")
    }
    words = {
        name: effects[name].fillna("").astype(str).tolist()
        for name in ("analysis", "where", "what", "interval")
    }
    return {**words, **numbers}
