"""Feature effects: what changes when features of a dictionary are turned off, on, or clamped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from dtx.analysis.core.of_model import OfModel
from dtx.analysis.core.result import Result
from dtx.analysis.core.scoring import Scoring
from dtx.analysis.feature_effects.spec import PARTS, UNTRAINED, FeatureEffectsSpec, place_of
from dtx.dictionary.dictionary_stage import DictionaryStage
from dtx.env.environment import Environment
from dtx.pairs.declared import Declared
from dtx.resources import Resources
from dtx.stage import Stage

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True)
class FeatureEffects(FeatureEffectsSpec, OfModel):
    """Change single features and measure what follows; ``conf/analysis/feature_effects.yaml`` explains it.

    A feature is turned off where it is on, turned on where it is off, or clamped; measured are the logit
    difference of declared pairs, the KL to the unedited policy in held-out episodes, and return and outcome
    of episodes that are played. Sets of features are patched between the runs of pairs, and so is every edge
    of the circuit of heads, MLPs, features and the error that attribution finds (Marks et al. 2024, "Sparse
    Feature Circuits"). Controls: random features that are on about as often and add about as much, with
    their own values and with changes as large as the chosen feature's; untrained networks with dictionaries
    of their own. Exact checks: features and error are the model, a feature at its own values and 0 more of
    it change nothing, edits in a batch are those of the spliced dictionary.
    """

    question: ClassVar[str] = "What do features of a dictionary do, beyond random ones?"
    headline: ClassVar[tuple[str, ...]] = (
        "off_ld_margin",
        "on_ld_margin",
        "off_kl_margin",
        "on_kl_margin",
        "features_area",
        "dimensions_area",
    )
    scoring: ClassVar[Scoring | None] = None
    acts_in: ClassVar[str] = "env"
    plays: ClassVar[bool] = True

    env: Environment
    pairs: Declared
    dictionary: DictionaryStage

    def check(self) -> Iterator[tuple[str, str]]:
        """Dictionaries of another model, and of activations that cannot be followed."""
        yield from super().check()
        activations = self.dictionary.activations
        if activations.dt.key != self.dt.key:
            yield (
                "dictionary",
                f"is of activations of {activations.dt.label}, and dt is {self.dt.label}",
            )
        elif activations.checkpoint != self.checkpoint:
            yield (
                "checkpoint",
                f"{self.checkpoint} is not the dictionary's, {activations.checkpoint}",
            )
        for hook in self.dictionary.chosen:
            if place_of(hook) is None:
                yield (
                    "dictionary",
                    f"features of {hook} cannot be followed; use {', '.join(PARTS)} of a block",
                )
        if "trained" not in [how.value for how in self.dictionary.how]:
            yield "dictionary", "has no trained dictionary: dictionary.how needs trained"

    def derived(self) -> Mapping[str, Stage]:
        """Dictionaries of untrained networks' own activations."""
        return {f"untrained_{i}": self.dictionary.of_untrained(i) for i in range(UNTRAINED)}

    def resources(self) -> Resources:
        """Edits of all windows, of the model and of untrained networks."""
        edits = 2 * self.features * (1 + 2 * self.controls)
        one = edits * (self.windows + self.pairs.most_pairs / 10)
        played = 2 * self.played * (1 + 2 * self.controls) * self.episodes * len(self.targets)
        count = self.dictionary.count
        passes = (count + UNTRAINED) * one / 3 + count * played * self.env.horizon / 20
        return self.dt.passing(passes, held={"at_once": self.at_once, "windows": 4 * self.windows})

    def compute(self) -> Result:
        """Examine every dictionary."""
        from dtx.analysis.feature_effects.compute import Given, compute
        from dtx.analysis.feature_effects.spec import TRAINED

        def given(name: str, stage: DictionaryStage, model) -> Given:
            return Given(name, model, stage.load(), stage.activations.load())

        own = given(TRAINED, self.dictionary, self.model())
        untrained = [
            given(name, stage, stage.activations.dt.load())
            for name, stage in self.derived().items()
            if isinstance(stage, DictionaryStage)
        ]
        episodes = self.dictionary.activations.dataset.load()
        return compute(self, own, untrained, self.pairs.load(), episodes, self.env)

    def figures(self, result: Result) -> Iterator[tuple[str, Figure]]:
        """``feature_effects``: chosen beside random features, sets of features, the strongest edges."""
        from dtx.analysis.feature_effects.plots import draw

        yield "feature_effects", draw(result)
