"""Panels of a world over the probabilities of actions: as an animation, and as a film strip."""

from __future__ import annotations

import functools
import textwrap
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dtx import figures
from dtx.analysis.core.plots import headline
from dtx.analysis.core.result import Result

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

WIDTH, WORLD, GAP = 252, 240, 8  # pixels: of a panel, of a world in it, around panels
ROW, TEXT, SMALL = 26, 22, 20  # pixels: height of a bar's row, sizes of letters
COLUMNS = 3  # panels side by side: at 390 pixels their letters are still 10 pixels high
STEP_MS, END_MS = 700, 2500  # how long a step and the end are shown
INK, FAINT, PAPER = figures.INK, figures.SOFT, figures.WHITE


class Film:
    """All episodes in one layout, side by side.

    Args:
        result: Of the analysis.
        layout: Its name.
    """

    def __init__(self, result: Result, layout: str):
        steps, ends = result.tables["steps"], result.tables["ends"]
        self.result, self.layout = result, layout
        self.ends = ends[ends.layout == layout].reset_index(drop=True)
        self.steps = [
            steps[(steps.layout == layout) & (steps.target == target)].reset_index(drop=True)
            for target in self.ends.target
        ]
        self.scenes = {
            name: np.asarray(result.arrays[name]) for name in ("grids", "seen", "agents")
        }
        self.names = [c.removeprefix("p_") for c in steps.columns if str(c).startswith("p_")]

    @property
    def title(self) -> str:
        """What the episodes show."""
        parts = [f"{end.target:g}: {end.outcome}" for end in self.ends.itertuples()]
        return f"{self.layout}; reward-to-go {', '.join(parts)}"

    @property
    def longest(self) -> int:
        """Steps of the longest episode."""
        return int(self.ends.steps.max())

    def frame(self, step: int) -> Image.Image:
        """All episodes at a step; those that have ended stay at their end."""
        panels = [self._panel(number, step) for number in range(len(self.ends))]
        return _grid(panels, min(COLUMNS, len(panels)), self.title)

    def write_gif(self, path: Path) -> None:
        """Write the animation, which repeats for ever."""
        frames = [self.frame(step) for step in range(self.longest + 1)]
        palette = _palette(frames)
        indexed = [f.quantize(palette=palette, dither=Image.Dither.NONE) for f in frames]
        times = [STEP_MS] * (len(frames) - 1) + [END_MS]
        indexed[0].save(
            path, save_all=True, append_images=indexed[1:], duration=times, loop=0, optimize=False
        )

    def strip(self) -> Figure:
        """The first step, the one at which the probabilities differ most, and the ends, downwards."""
        rows = [
            [self._panel(number, step) for number in range(len(self.ends))]
            for step in sorted({0, self.apart(), int(self.ends.steps.min()), self.longest})
        ]
        last = WORLD + 2 * ROW + 6  # all have ended there: no bars
        rows[-1] = [panel.crop((0, 0, WIDTH, last)) for panel in rows[-1]]
        picture = _grid([panel for row in rows for panel in row], len(self.ends), "")
        dpi = 140  # the report's: a pixel of the picture is one of the file
        figure, axes = figures.new(picture.width / dpi, picture.height / dpi, mosaic=[["main"]])
        axes["main"].set_axis_off()
        figure.set_dpi(dpi)
        figure.figimage(np.asarray(picture))
        note = (
            f"one episode a column, n = {len(self.ends)}; control: confidence of untrained models"
        )
        headline(figure, self.result, self.title, note)
        return figure

    def apart(self) -> int:
        """The step at which the probabilities of the episodes differ most, by their summed distances.

        While all go on; of one episode the step in its middle.
        """
        both = int(self.ends.steps.min())
        columns = [f"p_{name}" for name in self.names]
        chances = np.stack([steps[columns].to_numpy(float)[:both] for steps in self.steps])
        if len(chances) == 1:
            return both // 2
        return int(np.abs(chances[:, None] - chances[None]).sum((0, 1, 3)).argmax())

    def _panel(self, number: int, step: int) -> Image.Image:
        """One episode at a step: where the agent is, and what it may do next."""
        steps, end = self.steps[number], self.ends.iloc[number]
        over = step >= len(steps)
        row = None if over else steps.iloc[step]
        panel = Image.new("RGB", (WIDTH, WORLD + 3 * ROW + 6 + ROW * len(self.names)), PAPER)
        pen = ImageDraw.Draw(panel)
        left = (WIDTH - WORLD) // 2
        pen.text((left, 0), f"RTG {end.target:g}", INK, _font(TEXT, bold=True))
        self._right(pen, 2, f"step {min(step, len(steps))}", FAINT)
        panel.paste(self._world(int(end.scene if row is None else row.scene)), (left, ROW + 2))
        below = ROW + WORLD + 6
        if row is None:
            colour = figures.OUTCOME_COLOURS[str(end.outcome)]
            pen.text((left, below), str(end.outcome), colour, _font(SMALL, bold=True))
            self._right(pen, below, f"return {end['return']:.2f}", INK)
            return panel
        holds = f", holds {row.carries}" if row.carries else ""
        pen.text((left, below), f"takes {row.action}{holds}", INK, _font(SMALL))
        self._bars(pen, row, left, below + ROW + 4)
        return panel

    def _bars(self, pen: ImageDraw.ImageDraw, row: pd.Series, left: int, top: int) -> None:
        """A bar an action, the taken one in bold."""
        start, room = left + 100, WORLD - 100 - 52
        for place, name in enumerate(self.names):
            y, chance = top + place * ROW, float(row[f"p_{name}"])
            taken = name == row.action
            font = _font(SMALL, bold=taken)
            pen.text((left, y), name, INK if taken else FAINT, font)
            colour = figures.ACTION_COLOURS.get(name, figures.ACTION_COLOURS["other"])
            pen.rectangle((start, y + 4, start + room, y + ROW - 6), figures.TRACK)
            if chance * room >= 1:
                pen.rectangle((start, y + 4, start + round(chance * room), y + ROW - 6), colour)
            self._right(pen, y, f"{chance:.2f}", INK if taken else FAINT)

    @staticmethod
    def _right(pen: ImageDraw.ImageDraw, y: int, text: str, colour: str) -> None:
        font = _font(SMALL)
        pen.text((WIDTH - (WIDTH - WORLD) // 2 - pen.textlength(text, font), y), text, colour, font)

    @functools.cache  # noqa: B019 - lives as long as one film
    def _world(self, scene: int) -> Image.Image:
        """A world as minigrid draws it, with what the agent sees in a lighter colour."""
        from minigrid.core.grid import Grid

        grid, _ = Grid.decode(self.scenes["grids"][scene])
        x, y, direction = (int(value) for value in self.scenes["agents"][scene])
        tile = max(8, WORLD // max(grid.width, grid.height))
        drawn = grid.render(tile, (x, y), direction, highlight_mask=self.scenes["seen"][scene])
        picture = Image.fromarray(drawn)
        scale = WORLD / max(picture.size)
        size = (round(picture.width * scale), round(picture.height * scale))
        square = Image.new("RGB", (WORLD, WORLD), PAPER)
        square.paste(picture.resize(size, Image.Resampling.LANCZOS), (0, 0))
        return square


@functools.cache
def _font(size: int, bold: bool = False) -> Any:
    """Matplotlib's own font, which is there on every machine."""
    from matplotlib import font_manager

    weight = "bold" if bold else "normal"
    path = font_manager.findfont(
        font_manager.FontProperties(family="DejaVu Sans", weight=weight), fallback_to_default=True
    )
    return ImageFont.truetype(path, size)


def _grid(panels: list[Image.Image], columns: int, title: str) -> Image.Image:
    """Panels in rows under a title; those of a row are of one height."""
    width = GAP + columns * (WIDTH + GAP)
    lines = textwrap.wrap(title, max(10, int(width / (0.6 * SMALL))))
    top = GAP + (SMALL + 6) * len(lines)
    heights = [panel.height + GAP for panel in panels[::columns]]
    picture = Image.new("RGB", (width, top + sum(heights)), PAPER)
    pen = ImageDraw.Draw(picture)
    for place, line in enumerate(lines):
        pen.text((GAP, GAP // 2 + place * (SMALL + 6)), line, INK, _font(SMALL, bold=True))
    for number, panel in enumerate(panels):
        row, column = divmod(number, columns)
        picture.paste(panel, (GAP + column * (WIDTH + GAP), top + sum(heights[:row])))
    return picture


def _palette(frames: list[Image.Image]) -> Image.Image:
    """The most frequent colours of all frames, so that bars and worlds keep theirs and nothing flickers."""
    counts: Counter[tuple[int, ...]] = Counter()
    for frame in frames:
        for count, colour in frame.getcolors(frame.width * frame.height) or ():
            counts[colour] += count
    palette = Image.new("P", (1, 1))
    palette.putpalette([value for colour, _ in counts.most_common(256) for value in colour])
    return palette
