"""Heatmaps of activation patching: nodes against tokens, the edit beside its control."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from dtx.report import Report

if TYPE_CHECKING:
    from dtx.analysis.activation_patching_measure import Found


def draw(report: Report, found: Found) -> None:
    """One figure an edit: mean rho over its pairs, and the same with donors from other worlds."""
    patches = found.tables["patches"]
    for edit in found.edits:
        mine = patches[(patches["edit"] == edit) & patches["rho"].notna()]
        if "edit" in set(mine["kind"]):
            _heatmap(report, edit, mine, found.tokens)


def _heatmap(report: Report, edit: str, patches: pd.DataFrame, tokens: list[str]) -> None:
    from dtx import figures

    own = patches[patches["kind"] == "edit"]
    names = list(dict.fromkeys(own["name"]))
    # Tokens at which nothing happens anywhere, most of all padding, would only make it wide.
    moved = own.groupby("position")["rho"].apply(lambda rho: rho.abs().max() > 1e-3)
    shown = [i for i in range(len(tokens)) if moved.get(i, False)] or list(range(len(tokens)))
    height = 1.3 + 0.145 * len(names)
    figure, axes = figures.new(7.0, height, mosaic=[["edit", "control"]], width_ratios=[1, 1])
    titles = {"edit": edit.replace("_", " "), "control": "control: another world's donor"}
    kinds = {"edit": "edit", "control": "shuffled_donor"}
    for place, axis in axes.items():
        mine = patches[patches["kind"] == kinds[place]]
        grid = np.full((len(names), len(shown)), np.nan)
        for (name, position), rho in mine.groupby(["name", "position"])["rho"].mean().items():  # type: ignore[misc]
            if position in shown:
                grid[names.index(name), shown.index(position)] = rho
        image = axis.imshow(grid, cmap="RdBu", vmin=-1, vmax=1, aspect="auto")
        axis.grid(False)
        axis.set_title(titles[place])
        size = 7 if len(shown) <= 14 else 5
        axis.set_xticks(range(len(shown)), [tokens[i] for i in shown], fontsize=size, rotation=90)
        labels = names if place == "edit" else []
        axis.set_yticks(range(len(labels)), labels, fontsize=6)
        layers = [name.split()[0] for name in names]
        for i in range(1, len(names)):
            if layers[i] != layers[i - 1]:
                axis.axhline(i - 0.5, color="#333", linewidth=0.8)
    pairs = own["pair"].nunique()
    bar = figure.colorbar(image, ax=list(axes.values()), shrink=0.6)
    bar.set_label(f"rho, mean of {pairs} pairs")
    report.figure(f"patching_{edit}", figure)
