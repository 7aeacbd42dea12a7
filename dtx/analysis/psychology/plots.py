"""The figures: the policy on MiniGrid's picture of each world, and how it changes with reward-to-go."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from dtx.analysis.core.notes import controls, note
from dtx.analysis.core.plots import headline
from dtx.analysis.core.result import Result
from dtx.analysis.psychology.spec import TRAINED
from dtx.figures import (
    ACTION_COLOURS,
    BLACK,
    BLUE,
    CLASS_COLOURS,
    GREY,
    LINES,
    MARKERS,
    ORANGE,
    PHONE,
    VERMILION,
    new,
)

NAMES = ("left", "right", "forward", "other")
"""Of actions by number; from 3 on they do not move the agent."""
QUARTERS = "Purples"
"""Colour map of divergences."""
TILE = 24
"""Pixels of a cell in MiniGrid's picture."""
EDGE = 0.8
"""Of the walls around the cells where the agent can be: how much is shown."""
PAPER = 0.35
"""How far the picture is lightened, so that arrows stand out."""
_CORNERS = (((0.5, -0.5), (0.5, 0.5)), ((0.5, 0.5), (-0.5, 0.5)),
            ((-0.5, 0.5), (-0.5, -0.5)), ((-0.5, -0.5), (0.5, -0.5)))  # fmt: skip
"""Corners of the quarter of a cell that stands for facing east, south, west, north."""
_FACING = np.array([(1, 0), (0, 1), (-1, 0), (0, -1)], float)
"""East, south, west, north; y grows downwards."""


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
    pairs = [layouts[i : i + 2] for i in range(0, len(layouts), 2)]
    rows = [[f"{t:g}/{layout}" for layout in (pair[0], pair[-1])] for t in both for pair in pairs]
    rows += [["js high", "js low"], ["legend", "legend"]]
    figure, axes = new(PHONE, 1.85 * len(rows), mosaic=rows)
    for target in both:
        for layout in layouts:
            axis = axes[f"{target:g}/{layout}"]
            _world(axis, worlds[worlds.layout == layout])
            here = (states.target == target) & (states.layout == layout)
            _arrows(axis, states[here])
            axis.set_title(f"{layout}, RTG {target:g}", fontsize=8.5)
    for name, target in zip(("js high", "js low"), both, strict=True):
        axis = axes[name]
        _world(axis, worlds[(worlds.layout == layouts[0]) & (worlds.kind == "wall")])
        shown = divergence[divergence.target == target]
        quarters = _quarters(axis, shown, edgecolors="white", linewidths=0.4, cmap=QUARTERS)
        quarters.set(array=shown.divergence.to_numpy(), clim=(0, math.log(2)))
        over = shown[shown.divergence > threshold]
        _quarters(axis, over, facecolors="none", edgecolors=ORANGE, linewidths=1.6)
        axis.set_title(f"divergence, RTG {target:g}", fontsize=8.5)
    bar = figure.colorbar(quarters, ax=axes["legend"], location="bottom", shrink=0.8, aspect=30)
    bar.set_label(
        "Jensen-Shannon divergence of layouts\nthat ask for different turns (nats)", fontsize=8
    )
    _legend(axes["legend"], threshold)
    headline(figure, result, _routine(result, low, high, len(layouts)), note(
        f"{len(layouts)} layouts of {len(states) // (len(layouts) * states.target.nunique())} poses",
        controls(result),
    ))  # fmt: skip
    return figure


def _routine(result: Result, low: float, high: float, layouts: int) -> str:
    """The finding of the map: routine and decision squares at both targets."""
    share = {t: result.metrics[f"routine_share_{t}"] for t in ("high", "low")}
    follows = {name: round((value or 0) * layouts) for name, value in share.items()}
    squares = int(result.metrics["decision_squares_before_turn_high"] or 0)
    return (
        f"At RTG {high:g} the most probable actions follow the routine in {follows['high']} of {layouts} "
        f"layouts, with {squares} decision square{'' if squares == 1 else 's'} before the turn; "
        f"at RTG {low:g} in {follows['low']}"
    )


def _legend(axis: Axes, threshold: float) -> None:
    axis.axis("off")
    handles: list = [
        Line2D([], [], ls="", marker=mark, ms=9, color=ACTION_COLOURS[name], label=label)
        for name, mark, label in (
            ("forward", "$\u2191$", "forward: the way the agent faces"),
            ("left", "$\u21b0$", "left of the way it faces"),
            ("right", "$\u21b1$", "right of the way it faces"),
            ("other", "o", "an action that does not move it"),
        )
    ]
    label = f"decision pose: over {threshold:g} nats"
    handles.append(Patch(fill=False, ec=ORANGE, lw=1.6, label=label))
    axis.legend(handles=handles, loc="center left", fontsize=8, title_fontsize=8, alignment="left", title=(
        "A quarter of a cell: the agent faces that way.\nMost probable action; pale where it is not certain."
    ))  # fmt: skip


def _trained(table: pd.DataFrame) -> pd.DataFrame:
    return table.loc[table.model == TRAINED]


def _world(axis: Axes, objects: pd.DataFrame) -> None:
    """MiniGrid's own picture of the walls and objects, with a white floor."""
    width, height = int(objects.x.max()) + 1, int(objects.y.max()) + 1
    picture = _picture(objects, width, height)
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    axis.imshow(picture, extent=extent, interpolation="nearest")
    free = np.ones((width, height), bool)  # no wall: what is shown, with an edge around it
    walls = objects[objects.kind == "wall"]
    free[walls.x, walls.y] = False
    xs, ys = np.nonzero(free)
    axis.set(xlim=(xs.min() - EDGE, xs.max() + EDGE), ylim=(ys.max() + EDGE, ys.min() - EDGE))
    axis.set(xticks=[], yticks=[])
    axis.grid(False)
    for side in axis.spines.values():
        side.set_visible(False)


def _picture(objects: pd.DataFrame, width: int, height: int) -> np.ndarray:
    from minigrid.core.constants import COLOR_TO_IDX, OBJECT_TO_IDX
    from minigrid.core.grid import Grid
    from minigrid.core.world_object import WorldObj

    grid = Grid(width, height)
    for x, y, kind in objects[["x", "y", "kind"]].itertuples(index=False):
        colour = COLOR_TO_IDX["grey" if kind == "wall" else "green"]  # the objects of these tasks
        grid.set(int(x), int(y), WorldObj.decode(OBJECT_TO_IDX[kind], colour, 0))
    picture = grid.render(TILE, (-1, -1), highlight_mask=np.zeros((width, height), bool))
    picture = np.where(picture.max(-1, keepdims=True) == 0, 255, picture)
    return (picture + (255 - picture) * PAPER).astype(np.uint8)


def _arrows(axis: Axes, poses: pd.DataFrame) -> None:
    """In the quarter of a pose, where its most probable action turns or moves the agent."""
    facing = _FACING[poses.direction.to_numpy()]
    place = poses[["x", "y"]].to_numpy(float) + 0.3 * facing
    action = poses.top_action.clip(upper=3).to_numpy()
    clockwise = np.stack([-facing[:, 1], facing[:, 0]], -1)  # y grows downwards
    alpha = 0.2 + 0.8 * poses.confidence.to_numpy()
    colours = np.array(
        [to_rgba(ACTION_COLOURS[NAMES[a]], w) for a, w in zip(action, alpha, strict=True)]
    ).reshape(-1, 4)
    for number, way in ((0, -clockwise), (1, clockwise), (2, facing)):
        mine = action == number
        axis.quiver(
            *place[mine].T, *0.4 * way[mine].T, color=colours[mine], angles="xy", scale_units="xy",
            scale=1, pivot="mid", width=0.016, headwidth=3.4, headlength=3, headaxislength=2.8,
        )  # fmt: skip
    rest = action == 3
    axis.scatter(*place[rest].T, s=9, color=colours[rest], lw=0)


def _quarters(axis: Axes, rows: pd.DataFrame, **style) -> PolyCollection:
    """The quarter of a cell that stands for each row's direction."""
    corners = [
        [(row.x, row.y), *((row.x + dx, row.y + dy) for dx, dy in _CORNERS[row.direction])]
        for row in rows.itertuples()
    ]
    collection = PolyCollection(corners, **style)
    axis.add_collection(collection, autolim=False)
    return collection


def curves(result: Result, low: float, high: float, threshold: float) -> Figure:
    """Entropy, confidence, divergence and look-backs by reward-to-go."""
    figure, axes = new(PHONE, 9.2, mosaic=[["entropy"], ["confidence"], ["divergence"], ["back"]])
    states = result.tables["states"]
    trained, others = states[states.model == TRAINED], states[states.model != TRAINED]

    def curve(axis: Axes, rows: pd.DataFrame, column: str, **style) -> None:
        mean = rows.groupby("target")[column].mean()
        axis.plot(mean.index, mean, **style)

    for name, rows, colour in (
        ("on the routine", trained[trained.on_routine], BLUE),
        ("off the routine", trained[~trained.on_routine], ORANGE),
    ):
        curve(
            axes["entropy"],
            rows,
            "entropy",
            label=name,
            color=colour,
            marker="o",
            ms=4,
            ls="-" if name[:2] == "on" else "--",
        )
        curve(axes["confidence"], rows, "non_kinetic", color=colour, marker="s", ms=4,
              ls="-" if name[:2] == "on" else "--", label=f"non-kinetic, {name}")  # fmt: skip
    curve(axes["entropy"], others, "entropy", label="untrained", color=GREY, ls=":")
    first = trained[trained.steps == 0]
    curve(axes["confidence"], first, "confidence", label="first action, most probable",
          color=BLACK, marker="o", ms=4, ls="-.")  # fmt: skip
    curve(axes["confidence"], others, "non_kinetic", label="non-kinetic, untrained",
          color=GREY, ls=":")  # fmt: skip
    axes["entropy"].set(title="Entropy of the policy", ylabel="nats", ylim=(0, 2.05))
    axes["confidence"].set(
        title="Confidence and non-kinetic mass", ylabel="probability", ylim=(0, 1.08)
    )
    _divergence(axes["divergence"], result.tables["divergence"], low, high, threshold)
    for index, (layout, rows) in enumerate(result.tables["play"].groupby("layout", sort=False)):
        axes["back"].plot(
            rows.target,
            rows.looks_back,
            ms=4,
            label=layout,
            color=CLASS_COLOURS[index % 4],
            marker=MARKERS[index % 4],
            ls=LINES[index % 4],
        )
    axes["back"].set(title="Episodes that look back", ylabel="share", ylim=(-0.02, 1.02))
    for name, axis in axes.items():
        axis.set_xlabel("target reward-to-go")
        axis.legend(fontsize=7.5, loc="upper left" if name == "confidence" else "best")
    axes["divergence"].set_xlabel("steps straight ahead from the start")
    told = {claim.verdict.value: [] for claim in result.claims}
    for claim in result.claims:
        told[claim.verdict.value].append(claim.text)
    text = "; ".join(f"{verdict}: {', '.join(texts)}" for verdict, texts in told.items())
    layouts, played = result.tables["worlds"].layout.nunique(), result.tables["play"]
    headline(figure, result, text[:1].upper() + text[1:], note(
        f"{layouts} layouts, {states.model.nunique() - 1} untrained models, "
        f"{played.episodes.max()} episodes a layout and target", controls(result),
    ))  # fmt: skip
    return figure


def _divergence(
    axis: Axes, divergence: pd.DataFrame, low: float, high: float, threshold: float
) -> None:
    """Divergence along the straight way to the decision square."""
    table = divergence[divergence.before_turn]
    trained = _trained(table)
    for target, colour, mark in ((high, BLUE, "o-"), (low, VERMILION, "s--")):
        rows = trained[trained.target == target].sort_values("steps")
        axis.plot(rows.steps, rows.divergence, mark, ms=4, color=colour, label=f"RTG {target:g}")
    rows = table[(table.model != TRAINED) & (table.target == high)]
    worst = rows.groupby("steps").divergence.max()
    axis.plot(worst.index, worst, ":", color=GREY, label="untrained, largest")
    axis.axhline(threshold, color=ORANGE, lw=1, ls="-.", label="threshold")
    axis.set(title="Divergence between layouts", ylabel="nats", ylim=(-0.02, 0.72))
    axis.set_xticks(sorted(trained.steps.unique()))
