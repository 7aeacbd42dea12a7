"""Which connections between components carry the edit: one sender's change is read by one receiver alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

from dtx.analysis.core.patching import PairRuns
from dtx.analysis.core.patching_spec import DONORS, EDIT, NULL, Direction
from dtx.analysis.path_patching.spec import EdgeTokens
from dtx.analysis.path_patching.sweep import EdgeSweep, wanted
from dtx.app.moment import Moment
from dtx.app.panels import LONG, PAIR, WORLD, choice, number
from dtx.dt.paths import outputs, patched

TITLE = "Path patching"
WHEN = LONG
NEEDS = (WORLD, PAIR)
CONTROL = (
    "The same edges patched from two unrelated runs, one that ends in the original's decision and one that "
    "ends in the edited run's, and between two equal runs, where nothing may change."
)
SOURCE = "dtx.analysis.path_patching.sweep.EdgeSweep"
DOC = "gallery.md#path_patching"
FIRST = False
SIZE = "wide"
AT_ONCE = 512
CHECKED = 3
"""Strongest edges that are compared with a plain forward pass."""
STEP = 0.1
"""Share of the edges after which the page is told again."""
TOLERANCE = 1e-3
"""As ``conf/analysis/path_patching.yaml`` has it."""


@dataclass(frozen=True)
class Parameters:
    """Attributes: see the help of each."""

    tokens: str = choice(
        EdgeTokens.together.value, [each.value for each in EdgeTokens],
        "together: an edge at all tokens at once; each: at every token alone, too",
    )  # fmt: skip
    direction: str = choice(
        Direction.denoise.value, [each.value for each in Direction],
        "denoise: from the original into the edited run; noise: the reverse",
    )  # fmt: skip
    shown: int = number(24, 1, 100, "Strongest edges that are listed and drawn")


def compute(moment: Moment, parameters: Parameters) -> Iterator[tuple[float, dict[str, Any]]]:
    """Yield (share done, data) after some senders: the strongest edges so far.

    Returns:
        ``edges``: columns ``sender``, ``receiver``, ``input`` (q, k, v, mlp, logits), ``token`` (a name, or
        ``all``), ``rho`` (NaN under the gap), ``change`` of LD, ``donor_clean`` and ``donor_corrupt`` (rho),
        the largest change first. ``layers``, ``heads``, ``ld`` of both runs, ``measured``: edges so far.
    """
    batch, direction = moment.pair.batch(moment.cfg), Direction(parameters.direction)
    gap, layers = moment.place.declared.gap, moment.cfg.n_layers
    runs = PairRuns(moment.model, batch, direction, gap, wanted(layers))
    every, each = np.ones(len(batch), bool), parameters.tokens == EdgeTokens.each.value
    sweep = EdgeSweep(moment.model, runs, every, AT_ONCE, each, moment.stop)
    own = runs.table()
    own = own[own["kind"] == EDIT].iloc[0]
    strongest, null, measured = pd.DataFrame(), np.nan, 0
    names = moment.original.tokens.names
    told, waiting = 0.0, []
    for share, places in sweep.parts():  # ends early when nobody waits
        waiting += places
        if told and share < min(told + STEP, 1.0):
            continue
        told, table, waiting = share, sweep.table(waiting), []
        if each:  # all tokens together are another question
            table = table[table["position"] >= 0]
        null = float(np.fmax(null, table.loc[table["kind"] == NULL, "change"].abs().max()))
        measured += int((table["kind"] == EDIT).sum())
        strongest = pd.concat([strongest, _beside(table)], ignore_index=True)
        order = strongest["change"].abs().sort_values(ascending=False, kind="stable").index
        strongest = strongest.loc[order[: parameters.shown]].reset_index(drop=True)
        columns = {name: strongest[name].to_numpy() for name in ("rho", "change", *DONORS)}
        labels = {name: strongest[name].tolist() for name in ("sender", "receiver", "input")}
        position = strongest["position"].tolist()
        error = null if share < 1.0 else max(null, _plain(moment, runs, sweep, strongest))
        yield (
            share,
            {
                "tokens": parameters.tokens,
                "direction": direction.value,
                "edges": {
                    **labels,
                    "token": ["all" if m < 0 else names[m] for m in position],
                    **columns,
                },
                "measured": measured,
                "layers": layers,
                "heads": moment.cfg.n_heads,
                "ld": {"original": float(own["ld_clean"]), "edited": float(own["ld_corrupt"])},
                "gap": gap,
                "measurable": bool(own["measurable"]),
                "null": null,
                "check": {
                    "name": "patching between two equal runs changes nothing, and the strongest edges are "
                    "those of a plain forward pass",
                    "error": error,
                    "tolerance": TOLERANCE,
                    "holds": error <= TOLERANCE,
                },
            },
        )


def _beside(table: pd.DataFrame) -> pd.DataFrame:
    """The edit's rows, with the donors' rho of the same cells as columns."""
    own = pd.DataFrame(table[table["kind"] == EDIT]).reset_index(drop=True)
    for kind in DONORS:  # the rows of each kind are in the same order of cells
        there = table.loc[table["kind"] == kind, "rho"].to_numpy()
        own[kind] = there if len(there) else np.nan
    return own


@torch.inference_mode()
def _plain(moment: Moment, runs: PairRuns, sweep: EdgeSweep, strongest: pd.DataFrame) -> float:
    """Largest distance of the strongest edges' change of LD from that of a plain forward pass."""
    row = np.flatnonzero(runs.batch.kind(EDIT))
    index = torch.from_numpy(row)
    source = {s: value[index] for s, value in outputs(moment.model, runs.source).items()}
    by_name = {(e.sender.name, e.receiver.name, e.receiver.input): e for e in sweep.edges}
    errors = [0.0]
    for cell in strongest.head(CHECKED).to_dict("records"):
        mask = torch.zeros(1, sweep.n, dtype=torch.bool)
        mask[:, cell["position"] if cell["position"] >= 0 else slice(None)] = True
        edge = by_name[cell["sender"], cell["receiver"], cell["input"]]
        logits = patched(moment.model, runs.patched_context(row), source, [(edge, mask)])
        ld = float(runs.batch.difference_of(logits, index)) - runs.base_ld[row[0]]
        errors.append(abs(ld - cell["change"]))
    return float(np.max(errors))
