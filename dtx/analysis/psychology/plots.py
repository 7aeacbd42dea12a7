"""The figures: the policy on the grid, and how it changes with reward-to-go."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from dtx.analysis.core.result import Result
from dtx.analysis.psychology.spec import TRAINED
from dtx.figures import new

ACTIONS = {
    "left": "#d1495b", "right": "#2a9d5c", "forward": "#1d3557", "non-kinetic": "#e9a23b",
}  # fmt: skip
_CORNERS = (((0.5, -0.5), (0.5, 0.5)), ((0.5, 0.5), (-0.5, 0.5)),
            ((-0.5, 0.5), (-0.5, -0.5)), ((-0.5, -0.5), (0.5, -0.5)))  # fmt: skip
"""Corners of the quarter of a cell that stands for facing east, south, west, north."""


def state_map(result: Result, low: float, high: float, threshold: float) -> Figure:
    """The most probable action in every pose of every layout, and where layouts diverge.

    Args:
        result: Of the analysis.
        low: Target of the second row. high: Of the first.
        threshold: Divergence of a decision pose.
    """
    worlds = result.tables["worlds"]
    layouts = worlds.layout.drop_duplicates().tolist()
    states, divergence = (_trained(result.tables[name]) for name in ("states", "divergence"))
    both = (high, low)
    rows = [[f"{t:g}/{layout}" for layout in layouts] for t in both]
    # Divergence maps and the legend share the last row, two columns each where there are four.
    rows.append(["js high", "js low", *["legend"] * (len(layouts) - 2)])
    figure, axes = new(7.0, 6.0, mosaic=rows)
    for target in both:
        for layout in layouts:
            axis = axes[f"{target:g}/{layout}"]
            _world(axis, worlds[worlds.layout == layout])
            chosen = states[(states.target == target) & (states.layout == layout)]
            names = [
                ["left", "right", "forward"][a] if a < 3 else "non-kinetic"
                for a in chosen.top_action
            ]
            alpha = 0.15 + 0.85 * chosen.confidence
            colours = [to_rgba(ACTIONS[n], a) for n, a in zip(names, alpha, strict=True)]
            _quarters(axis, chosen, facecolors=colours, edgecolors="white", linewidths=0.4)
            axis.set_title(f"{layout}, RTG {target:g}", fontsize=8)
    for name, target in zip(("js high", "js low"), both, strict=True):
        axis = axes[name]
        _world(axis, worlds[(worlds.layout == layouts[0]) & (worlds.kind == "wall")])
        rows = divergence[divergence.target == target]
        colours = [to_rgba("#6a1f78", min(max(d, 0) / 0.693, 1)) for d in rows.divergence]
        _quarters(axis, rows, facecolors=colours, edgecolors="white", linewidths=0.4)
        over = rows[rows.divergence > threshold]
        _quarters(axis, over, facecolors="none", edgecolors="#e9a23b", linewidths=1.4)
        axis.set_title(f"divergence, RTG {target:g}", fontsize=8)
    legend = axes["legend"]
    legend.axis("off")
    handles = [Patch(color=colour, label=name) for name, colour in ACTIONS.items()]
    handles += [
        Patch(
            color="#6a1f78",
            label="divergence of layouts that ask for\ndifferent turns (full: ln 2)",
        ),
        Patch(fill=False, ec="#e9a23b", lw=1.5, label=f"decision pose: over {threshold:g} nats"),
    ]
    legend.legend(handles=handles, loc="center left", fontsize=7.5, title_fontsize=7.5, title=(
        "A quarter of a cell: facing that way.\nColour: most probable action; full: certain."
    ))  # fmt: skip
    return figure


def _trained(table: pd.DataFrame) -> pd.DataFrame:
    return table.loc[table.model == TRAINED]


def _world(axis: Axes, objects: pd.DataFrame) -> None:
    for x, y, kind in objects[["x", "y", "kind"]].itertuples(index=False):
        if kind == "wall":
            axis.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, color="#c9ced8", lw=0))
        else:
            axis.text(x, y, kind[0].upper(), ha="center", va="center", fontsize=9, weight="bold")
    width, height = objects.x.max() + 0.5, objects.y.max() + 0.5
    axis.set(xlim=(-0.5, width), ylim=(height, -0.5), xticks=[], yticks=[], aspect="equal")
    axis.grid(False)
    for side in axis.spines.values():
        side.set_visible(False)


def _quarters(axis: Axes, rows: pd.DataFrame, **style) -> None:
    """The quarter of a cell that stands for each row's direction."""
    corners = [
        [(row.x, row.y), *((row.x + dx, row.y + dy) for dx, dy in _CORNERS[row.direction])]
        for row in rows.itertuples()
    ]
    axis.add_collection(PolyCollection(corners, **style), autolim=False)


def curves(result: Result, low: float, high: float, threshold: float) -> Figure:
    """Entropy, confidence, divergence and look-backs by reward-to-go."""
    figure, axes = new(7.0, 5.2, mosaic=[["entropy", "confidence"], ["divergence", "back"]])
    states = result.tables["states"]
    trained, others = states[states.model == TRAINED], states[states.model != TRAINED]

    def curve(axis: Axes, rows: pd.DataFrame, column: str, **style) -> None:
        mean = rows.groupby("target")[column].mean()
        axis.plot(mean.index, mean, **style)

    for name, rows, colour in (
        ("on the routine", trained[trained.on_routine], "#1d3557"),
        ("off the routine", trained[~trained.on_routine], "#e9a23b"),
    ):
        curve(axes["entropy"], rows, "entropy", label=name, color=colour, marker="o", ms=3)
        curve(axes["confidence"], rows, "non_kinetic", color=colour, marker="s", ms=3,
              label=f"non-kinetic actions, {name[:3].strip()}")  # fmt: skip
    curve(axes["entropy"], others, "entropy", label="untrained", color="#8d99ae", ls=":")
    first = trained[trained.steps == 0]
    curve(axes["confidence"], first, "confidence", label="first action, most probable",
          color="#2a9d5c", marker="o", ms=3)  # fmt: skip
    curve(axes["confidence"], others, "non_kinetic", label="non-kinetic, untrained",
          color="#8d99ae", ls=":")  # fmt: skip
    axes["entropy"].set(title="Entropy of the policy", ylabel="nats", ylim=(0, 2.05))
    axes["confidence"].set(
        title="Confidence and non-kinetic mass", ylabel="probability", ylim=(0, 1.08)
    )
    _divergence(axes["divergence"], result.tables["divergence"], low, high, threshold)
    colours = ["#1d3557", "#5b8fb9", "#d1495b", "#e9a23b"]
    for index, (layout, rows) in enumerate(result.tables["play"].groupby("layout", sort=False)):
        axes["back"].plot(
            rows.target, rows.looks_back, "o-", ms=3, label=layout, color=colours[index % 4]
        )
    axes["back"].set(title="Episodes that look back", ylabel="share", ylim=(-0.02, 1.02))
    for name, axis in axes.items():
        axis.set_xlabel("reward-to-go asked for")
        axis.legend(fontsize=7, loc="upper left" if name == "confidence" else "best")
    axes["divergence"].set_xlabel("steps straight ahead from the start")
    return figure


def _divergence(
    axis: Axes, divergence: pd.DataFrame, low: float, high: float, threshold: float
) -> None:
    """Divergence along the straight way to the decision square."""
    table = divergence[divergence.before_turn]
    trained = _trained(table)
    for target, colour in ((high, "#1d3557"), (low, "#d1495b")):
        rows = trained[trained.target == target].sort_values("steps")
        axis.plot(rows.steps, rows.divergence, "o-", ms=3.5, color=colour, label=f"RTG {target:g}")
    rows = table[(table.model != TRAINED) & (table.target == high)]
    worst = rows.groupby("steps").divergence.max()
    axis.plot(worst.index, worst, ":", color="#8d99ae", label="untrained, largest")
    axis.axhline(threshold, color="#e9a23b", lw=1, ls="--", label="threshold")
    axis.set(title="Divergence between layouts", ylabel="nats", ylim=(-0.02, 0.72))
    axis.set_xticks(sorted(trained.steps.unique()))
