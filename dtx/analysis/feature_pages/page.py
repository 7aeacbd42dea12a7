"""The page: a list of all features that is sorted and filtered, and one feature at a time.

It is one file without a network. What the list needs is read at once; all else lies in slices, compressed,
of which the page unpacks those that it shows: :data:`FEATURES` features, :data:`PICTURES` pictures each.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from dtx.analysis.core.page import Heading, ResultPage
from dtx.analysis.core.result import Result
from dtx.analysis.feature_pages.looks import NO_WORLD
from dtx.analysis.feature_pages.spec import RANDOM, STRONGEST, UNNAMED
from dtx.pages.pictures import png
from dtx.pairs.runs import view_picture

FEATURES, PICTURES = 64, 128
SETS = {
    STRONGEST: "largest activation, of tokens that look different",
    RANDOM: "random tokens at which it is on",
}


class FeaturesPage(ResultPage):
    """A page (:class:`dtx.report.Page`) with all features.

    Args:
        result: Of the analysis. heading: What stands at the top.
    """

    template: ClassVar[str] = "analysis/feature_pages/page.html"

    def __init__(self, result: Result, heading: Heading):
        super().__init__(result, heading)
        self.features, self.examples, self.facts = (
            result.tables[name] for name in ("features", "examples", "facts")
        )

    def values(self) -> Mapping[str, Any]:
        """The list, the slices, and which of them holds what."""
        pictures, of_view, of_world = self._pictures()
        table = self.features
        rows = [self._line(line) for line in table.to_dict("records")]
        details = self._details(of_view, of_world)
        return {
            "about": {
                "rows": rows,
                "slice": FEATURES,
                "pictures": PICTURES,
                "actions": [c.removeprefix("logit_") for c in table if c.startswith("logit_")],
                "labelled": "verdict" in table,
                "steps": int(self.result.metrics["longest"] or 0),
                "sets": list(SETS.values()),
            },
            "slices": [packed(details[i : i + FEATURES]) for i in range(0, len(details), FEATURES)],
            "sprites": [
                packed(pictures[i : i + PICTURES]) for i in range(0, len(pictures), PICTURES)
            ],
            "count": len(table),
        }

    def _line(self, line: Mapping[str, Any]) -> list[Any]:
        """One feature in the list: number, label, verdict, density, largest, kind, seed r, untrained r."""
        kinds = {name: line[f"share_{name}"] for name in ("R", "S", "A")}
        label, verdict = line.get("label"), line.get("verdict")
        return [
            line["feature"],
            # A sentence that is too bad to be a name is told with its score, but names nothing.
            label if isinstance(label, str) and verdict != UNNAMED else "",
            verdict if isinstance(verdict, str) else "",
            short(line["density"]),
            short(line["largest"]),
            max(kinds, key=lambda kind: kinds[kind]),
            short(line["other_r"]),
            short(line["untrained_r"]),
        ]

    def _details(self, of_view: list[int], of_world: list[int]) -> list[dict[str, Any]]:
        """What is shown of each feature, in the order of the table."""
        histogram, times = (np.asarray(self.result.arrays[n]) for n in ("histogram", "times"))
        drawn = dict(iter(self.examples.groupby("feature", sort=False)))
        facts = dict(iter(self.facts.groupby("feature"))) if len(self.facts) else {}
        details = []
        for place, line in enumerate(self.features.to_dict("records")):
            number = line["feature"]
            told = facts.get(number)
            details.append(
                {
                    "mean": short(line["mean"]),
                    "histogram": [int(v) for v in histogram[place]],
                    "times": [short(v) for v in times[place]],
                    "kinds": [short(line[f"share_{kind}"]) for kind in ("R", "S", "A")],
                    "logits": [short(line[c]) for c in line if c.startswith("logit_")],
                    "other": [
                        int(line["other_seed"]),
                        int(line["other_feature"]),
                        short(line["other_r"]),
                    ],
                    "untrained": [int(line["untrained_feature"]), short(line["untrained_r"])],
                    "sentence": line["label"] if isinstance(line.get("label"), str) else "",
                    "label": [
                        short(line.get(c, np.nan))
                        for c in ("f1", "balanced_accuracy", "label_margin", "label_margin_low")
                    ],
                    "facts": [] if told is None else self._facts(told),
                    "sets": [
                        self._examples(drawn[number], name, of_view, of_world) for name in SETS
                    ],
                }
            )
        return details

    @staticmethod
    def _facts(told: pd.DataFrame) -> list[list[Any]]:
        return [
            [row.fact, row.group, short(row.f1), short(row.margin), short(row.low), short(row.high)]
            for row in told.itertuples()
        ]

    @staticmethod
    def _examples(
        drawn: pd.DataFrame, name: str, of_view: list[int], of_world: list[int]
    ) -> list[list[Any]]:
        """Tokens: activation, pictures of view and world (-1: none), kind, step, reward-to-go, action."""
        return [
            [
                short(row.activation),
                of_view[row.view],
                -1 if row.world == NO_WORLD else of_world[row.world],
                row.kind,
                row.step + 1,
                short(row.reward_to_go),
                row.action,
            ]
            for row in drawn[drawn["set"] == name].itertuples()
        ]

    def _pictures(self) -> tuple[list[str], list[int], list[int]]:
        """All pictures, each once; and the number of that of each view and world."""
        known: dict[str, int] = {}

        def number(image: np.ndarray) -> int:
            return known.setdefault(png(image), len(known))

        views = [number(view_picture(view)) for view in self.result.arrays["views"]]
        worlds = [number(world) for world in self.result.arrays["worlds"]]
        return list(known), views, worlds


def short(value: Any) -> float | None:
    """A number with four digits; None: missing."""
    number = float(value)
    return None if np.isnan(number) else float(f"{number:.4g}")


def packed(value: Any) -> str:
    """A value as JSON, gzip, base64; the same for the same value."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return base64.b64encode(gzip.compress(text.encode(), 6, mtime=0)).decode()
