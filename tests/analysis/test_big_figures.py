"""Figures of larger models and more conditions than the defaults have: compact, and all of it can be read."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from dtx.analysis.ablation import plots as ablation
from dtx.analysis.ablation.spec import AblationSpec
from dtx.analysis.activation_patching.plots import heatmaps
from dtx.analysis.activation_patching.plots import page as patching_page
from dtx.analysis.attribution import plots as attribution
from dtx.analysis.core.patching_spec import DONORS, EDIT, name_of
from dtx.analysis.core.result import About, Check, Claim, Result, Verdict
from dtx.analysis.scorecard import plots as scorecard
from dtx.analysis.smallest_circuit import plots as smallest_circuit
from dtx.analysis.smallest_circuit.spec import HELD_OUT, MATCHED, PRUNED, SAME_NODES
from dtx.analysis.smallest_circuit.spec import name_of as circuit_name
from dtx.config.compose import build_group
from dtx.dt.names import HEAD, NEURON, Part
from dtx.figures import PHONE
from tests.legible import problems

LAYERS, HEADS = 6, 12
TALLEST = 16.0
"""Inches: a figure that is longer is a table."""


def result(tables: Mapping[str, pd.DataFrame], **more) -> Result:
    exact = [Check(name="parts add up", error=0.0, tolerance=1e-5)]
    known: dict = {"metrics": {}, "about": About.INSTRUMENT, "distinct_inputs": 1234}
    return Result(checks=exact, tables=tables, **{**known, **more})


def numbers(rows: int, seed: int = 0) -> dict[str, np.ndarray | str | int]:
    """An estimate in every row."""
    value = np.random.default_rng(seed).normal(0, 0.3, rows).clip(-1, 1)
    return {
        "low": value - 0.2,
        "high": value + 0.2,
        "n": 4,
        "interval": "t over 4 layouts",
        "value": value,
    }


def ablated() -> Result:
    parts = [Part(i, HEAD, h).name for i in range(LAYERS) for h in range(HEADS)]
    parts += [Part(i, kind).name for i in range(LAYERS) for kind in ("attention", "mlp")]
    kinds = dict.fromkeys(parts, HEAD) | {Part(5, NEURON, i).name: NEURON for i in range(200)}
    methods, targets = ("zero", "mean", "resample"), ("0", "0.3", "0.6", "0.892", "0.95")
    rows = list(itertools.product(methods, targets, kinds))
    table = pd.DataFrame(rows, columns=["method", "target", "name"]).assign(**numbers(len(rows)))
    table = table.rename(columns={"value": "change"}).assign(random_95=0.25, hinders=False)
    table["kind"], table["gap"] = table["name"].map(kinds), table["target"].map(float)
    table["needed"] = table["change"] < -0.7
    return result({"effects": table, "ranking": table})


def patched() -> Result:
    tokens = [f"{kind}{t}" for t in range(1, 10) for kind in "RSA"][:-1]
    nodes = [(i, n, None) for i in range(LAYERS) for n in ("resid_pre", "attn_out", "mlp_out")]
    nodes += [(i, "z", h) for i in range(LAYERS) for h in range(HEADS)]
    kinds, places = (EDIT, *DONORS), range(len(tokens))
    conditions = itertools.product(kinds, ("denoise", "noise"), (0.892, 0.4, 0.0), nodes, places)
    table = pd.DataFrame(
        [
            (k, d, t, i, n, -1 if h is None else h, name_of(i, n, h), at, tokens[at])
            for k, d, t, (i, n, h), at in conditions
        ],
        columns=[
            *(
                "kind",
                "direction",
                "reward_to_go",
                "layer",
                "node",
                "head",
                "name",
                "position",
                "token",
            )
        ],
    )
    table = table.assign(edit="instruction_flip", pairs=4, **numbers(len(table)))
    claim = Claim(
        id="instruction_flip_carried", text="it is carried", criterion="more than its control",
        evidence="0.98", verdict=Verdict.NOT_DECIDED,
    )  # fmt: skip
    arrays = {"tokens": np.array(tokens)}
    tables = {"effects": table.rename(columns={"value": "rho"})}
    return result(tables, arrays=arrays, claims=[claim])


def circuits() -> Result:
    keys = list(itertools.product(("instruction_flip", "swap_targets", "rtg_zero"), (0.892, 0.0),
                                  ("denoise", "noise")))  # fmt: skip
    parts, metrics = [], {}
    for i, key in enumerate(keys):
        size = np.unique(np.geomspace(1, 8000, 30).astype(int))
        kinds = [PRUNED] * len(size) + [MATCHED] * len(size) + [HELD_OUT, SAME_NODES]
        at = np.concatenate([size, size, [60, 60]])
        part = pd.DataFrame({"size": at, "circuit": kinds}).assign(**numbers(len(at), i))
        part = part.rename(columns={"value": "faithfulness"})
        parts.append(
            part.assign(**dict(zip(("edit", "reward_to_go", "direction"), key, strict=True)))
        )
        name = circuit_name(*key)
        metrics |= {f"{name}_edges": 60.0 + i, f"{name}_of": 8000.0}
    return result({"curve": pd.concat(parts)}, metrics=metrics)


def attributed() -> Result:
    names = [Part(i, HEAD, h).name for i in range(LAYERS) for h in range(HEADS)]
    rows = list(itertools.product((0.892, 0.6, 0.3, 0.0), names))
    ranking = pd.DataFrame(rows, columns=["target", "component"]).assign(**numbers(len(rows)))
    ranking = ranking.rename(columns={"value": "support"}).assign(kind=HEAD, ld=10.3, random_95=0.4)
    neurons = pd.DataFrame(
        list(itertools.product((0.892, 0.6, 0.3, 0.0), range(20))), columns=["target", "neuron"]
    ).assign(layer=5, **numbers(80))
    neurons = neurons.rename(columns={"value": "support"})
    cells = np.random.default_rng(0).normal(size=(4, 7, 7))
    return result({"ranking": ranking, "neurons": neurons}, arrays={"cells": cells})


def scored() -> Result:
    analyses = [f"analysis_{i}_with_a_name" for i in range(18)]
    kinds = {"T0": ("identity", "recall", "auroc", "position", "false_statements"),
             "T1": ("identity", "recall", "auroc"), "T4": ("false_positives",)}  # fmt: skip
    rows = [
        (name, f"model {kind}", kind, measure, part)
        for name in analyses
        for kind, measures in kinds.items()
        for measure in measures
        for part in ("nodes", "claims")
    ]
    table = pd.DataFrame(rows, columns=["analysis", "model", "kind", "measure", "part"])
    small = table["measure"].isin(["identity", "false_positives", "false_statements"])
    table["value"], table["limit"] = np.where(small, 0.0, 1.0), 0.5
    table["holds"] = (~((table["analysis"] == analyses[3]) & (table["measure"] == "auroc"))).astype(
        object
    )
    table.loc[(table["kind"] == "T1") & (table["measure"] == "recall"), "holds"] = None
    gates = table.assign(gate="T0 exact", wanted="all", found="exact")
    return result(
        {"scores": table.assign(interval="not a sample"), "gates": gates[gates["holds"].notna()]}
    )


@pytest.fixture(scope="module")
def spec() -> AblationSpec:
    # Only what is drawn is read of it; the analysis itself needs a model.
    return build_group("analysis/ablation")


def drawn(spec: AblationSpec) -> Iterator[tuple[str, Figure]]:
    yield "ablation", ablation.draw(ablated(), spec)
    yield "ablation_neurons", ablation.draw_neurons(ablated(), spec)
    yield from heatmaps(patched())
    yield "smallest_circuit", smallest_circuit.draw(circuits(), 0.9)
    yield "attribution", attribution.draw(attributed(), "left - right", 12)
    yield "scorecard", scorecard.draw(scored())


@pytest.fixture(scope="module")
def seen(spec) -> dict[str, dict]:
    """By figure: its size, its headline, and what makes it hard to read."""
    found = {}
    for name, figure in drawn(spec):
        title = figure.texts[0].get_text().replace("\n", " ")
        size = tuple(float(inches) for inches in figure.get_size_inches())
        found[name] = {"size": size, "title": title, "problems": problems(figure)}
        plt.close(figure)
    return found


def test_large_cases_are_drawn_compact_and_can_be_read(seen):
    assert len(seen) == 6
    for name, figure in seen.items():
        width, height = figure["size"]
        assert width == PHONE and height < TALLEST, (name, height)
        assert not figure["problems"], (name, figure["problems"])


def test_headlines_hold_the_results_numbers_and_verdicts(seen):
    titles = {name: figure["title"] for name, figure in seen.items()}
    table = ablated().tables["ranking"].query("target == '0.95' and method == 'zero'")
    first = table[table["kind"] != NEURON].sort_values("change").iloc[0]
    assert f"{first['name']} {first['change']:+.2f}" in titles["ablation"]
    assert "Beyond the control: not decided" in titles["patching_instruction_flip"]
    assert "60, 61, 62, 63" in titles["smallest_circuit"] and "8,000" in titles["smallest_circuit"]
    gates = scored().tables["gates"]
    held = int(gates["holds"].sum())
    assert titles["scorecard"].startswith(f"{held} of {len(gates)} gates hold, for 18 analyses")
    assert "analysis 3 with a name on model T0" in titles["scorecard"]


def test_what_is_not_established_says_so_and_why():
    failed = [Check(name="parts add up", error=3.0, tolerance=1e-5)]
    figure = scorecard.draw(
        Result(metrics={}, checks=failed, tables=scored().tables, about=About.INSTRUMENT)
    )
    title, note = (text.get_text().replace("\n", " ") for text in figure.texts)
    assert title.startswith("Not established: ") and "parts add up" in note
    plt.close(figure)


def test_pages_hold_all_that_the_compact_figures_leave_out(spec):
    page = ablation.page(ablated(), spec)
    assert len(page.data[0].y) == LAYERS * (HEADS + 2) + 200 and len(page.data[0].x) == 15
    rows = scorecard.page(scored()).data[0].cells["values"]
    assert len(rows[0]) == len(scored().tables["scores"]) and rows[-1][0] == "fails"
    assert len(patching_page(patched()).data) == 2 * 3 * 3
