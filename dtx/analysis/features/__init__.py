"""What a dictionary's features tell of the world, beyond the raw input and untrained networks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from dtx.analysis.core.analysis import Analysis
from dtx.analysis.core.result import Result
from dtx.analysis.core.scoring import Scoring
from dtx.analysis.features.spec import FeaturesSpec
from dtx.config.ranges import Count, NonNegative
from dtx.dictionary.dictionary_stage import DictionaryStage
from dtx.dictionary.spec import How
from dtx.resources import Resources
from dtx.stage import Stage
from dtx.text import suggest

ROWS, FACTS = 200_000, 500
"""Rows of a store and facts of a task, where its settings do not say: more than Memory's."""

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from dtx.analysis.features.sources import Which


@dataclass(frozen=True, kw_only=True)
class Features(FeaturesSpec, Analysis):
    """The best feature of each fact, beside controls; ``conf/analysis/features.yaml`` explains the fields.

    Feature and threshold are chosen on one half of the prefixes and scored by F1 on the other, each prefix
    as often as it occurs. An untrained network's dictionary and the raw input reach most of what a trained
    one reaches, so that coverage alone says nothing; what counts is the margin over the best of: a feature
    that is always on, one-hots of the input, untrained networks' own dictionaries, a frozen decoder.
    Controls: shuffled facts, and random labels of each view, of which at most 5% may come out. Exact checks:
    untrained networks are read at the same rows; the counts of the sparse product are those of a direct one;
    facts as their own dictionary score 1.
    """

    question: ClassVar[str] = (
        "Which facts do features tell beyond the raw input and untrained networks?"
    )
    headline: ClassVar[tuple[str, ...]] = (
        "margin",
        "margin_input",
        "margin_untrained",
        "beyond_share",
    )
    scoring: ClassVar[Scoring | None] = None

    dictionary: DictionaryStage
    hook: str | None
    width: Count | None
    sparsity: NonNegative | None

    def check(self) -> Iterator[tuple[str, str]]:
        """There are facts, and trained dictionaries of the hook, width and sparsity."""
        from dtx.activations.facts import check_facts

        of = self.dictionary
        for field, problem in check_facts(of.activations.dataset, self.facts):
            kind, _, name = field.partition(".")
            yield (f"facts.{name}" if name else f"dictionary.activations.{kind}"), problem
        if How.trained not in of.how:
            yield "dictionary.how", "trains no dictionary, only controls: add trained"
        stored = of.activations.tokens
        for kind in self.tokens or ():
            if stored is not None and kind not in stored:
                yield "tokens", f"no activations of {kind.value} tokens are stored"
        there = {"hook": of.chosen, "width": of.width, "sparsity": of.sparsities}
        chosen = {"hook": self.hook, "width": self.width, "sparsity": self.sparsity}
        for field, value in chosen.items():
            if value is not None and value not in there[field]:
                known = [f"{each:g}" if field != "hook" else str(each) for each in there[field]]
                yield field, f"no dictionary of {value} is trained{suggest(str(value), known)}"

    @property
    def which(self) -> Which:
        """The setting whose dictionaries are looked at: the first of each that is not named."""
        from dtx.analysis.features.sources import Which

        of = self.dictionary
        return Which(
            of.chosen[0] if self.hook is None else self.hook,
            of.width[0] if self.width is None else self.width,
            of.sparsities[0] if self.sparsity is None else self.sparsity,
        )

    def derived(self) -> Mapping[str, Stage]:
        """The controls' dictionaries: of untrained networks, and those of which a part stays random."""
        of = self.dictionary
        networks = {f"untrained_{seed}": of.of_untrained(seed) for seed in range(self.untrained)}
        return {**networks, "controls": of.controls()}

    def resources(self) -> Resources:
        """Features of all rows, the facts at them, and the counts of every feature, threshold and fact."""
        of = self.dictionary
        width = max(of.width) if self.width is None else self.width
        rows = float(self.rows or ROWS)
        facts = FACTS + 2.0 * self.shuffled
        sources = 6 + len(of.seeds) + self.untrained
        counts = 4.0 * width * self.thresholds * facts
        probes = 3e-8 * self.sample * facts * sum(self.sparse)
        return Resources(
            memory={
                "rows": rows * (facts + 200.0),
                "thresholds, shuffled, dictionary.width": 2 * counts,
                "sample": 30.0 * self.sample * FACTS,
            },
            disk={"shuffled": 1e3 * FACTS * sources + 1e6},
            seconds=5 + sources * (1e-9 * rows * 20 * facts + 1e-8 * counts + probes),
        )

    def compute(self) -> Result:
        """Score the features of all dictionaries and controls."""
        from dtx.activations.facts import FactTable
        from dtx.analysis.features.compute import compute
        from dtx.analysis.features.data import drawn_rows
        from dtx.analysis.features.sources import Reading

        of = self.dictionary
        stored = of.activations.load()
        rows = drawn_rows(self, stored)
        table = FactTable.of(stored, of.activations.dataset, self.facts, rows, self.least)
        untrained = [of.of_untrained(seed) for seed in range(self.untrained)]
        return compute(
            self,
            self.which,
            Reading(stored, of.load()),
            [Reading(u.activations.load(), u.load()) for u in untrained],
            of.controls().load(),
            table,
            rows,
        )

    def figures(self, result: Result) -> Iterator[tuple[str, Figure]]:
        """``features``: groups of facts with the features' F1 and the controls', and each fact's margin."""
        from dtx.analysis.features.plots import draw

        yield "features", draw(result)
