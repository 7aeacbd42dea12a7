"""How many features of a sparse dictionary does a model need to act as it does?"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from dtx.analysis.core.of_model import OfModel
from dtx.analysis.core.result import Result
from dtx.analysis.core.scoring import Scoring
from dtx.analysis.dictionaries.spec import HOWS, KEPT, MEAN, DictionariesSpec
from dtx.dictionary.dictionary_stage import DictionaryStage
from dtx.dictionary.spec import How
from dtx.env.environment import Environment
from dtx.resources import OPERATIONS, Resources
from dtx.stage import Stage

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from dtx.analysis.dictionaries.candidates import Network
    from dtx.report import Page

NETWORKS = 3
"""Untrained networks whose own dictionaries are judged (2026-11-30): each costs a store of activations."""


@dataclass(frozen=True, kw_only=True)
class DictionariesAnalysis(DictionariesSpec, OfModel):
    """Put each dictionary in the place of the activation, and look at what is left of the behaviour.

    *Return kept* is (ret - ret_mean) / (ret_model - ret_mean) on the same worlds and random numbers: 1 for
    the model, 0 for mean ablation. Beside it what is cheaper to measure and says less: explained variance,
    the KL to the model and its recovered share, the same most probable action, outcome flips, how many
    features are on (L0), how often, and how many never.

    Controls, all in the same place: untrained networks' own dictionaries, dictionaries of which a part stays
    random, principal components, the largest bare dimensions, random directions, the mean. Exact checks: the
    identity and the mean, and that with the error term logits and episodes are the model's.
    """

    question: ClassVar[str] = "How many features of a dictionary keep the model's return?"
    headline: ClassVar[tuple[str, ...]] = (
        "return_kept_high",
        "l0_for_95",
        "kl_recovered",
        "explained_variance",
        "return_kept_low",
        "return_kept_high_untrained",
        "l0_for_95_untrained",
        "kl_recovered_untrained",
        "explained_variance_untrained",
    )
    acts_in: ClassVar[str] = "env"
    plays: ClassVar[bool] = True
    scoring: ClassVar[Scoring | None] = None

    env: Environment
    dictionary: DictionaryStage

    def check(self) -> Iterator[tuple[str, str]]:
        """The dictionaries are of this model's activations, and some are trained."""
        yield from super().check()
        of = self.dictionary.activations
        if of.dt.key != self.dt.key:
            yield (
                "dictionary",
                f"is of the activations of {of.dt.label}, not of dt ({self.dt.label}): set "
                "dictionary.activations.dt to the same model",
            )
        elif of.checkpoint != self.checkpoint:
            yield (
                "checkpoint",
                f"is {self.checkpoint}, but the dictionary's activations are of {of.checkpoint}: set "
                "activations.checkpoint to the same step",
            )
        if How.trained not in self.dictionary.how:
            yield "dictionary", "trains controls alone: add trained to dictionary.how"

    def derived(self) -> Mapping[str, Stage]:
        """The activations and the controls of the dictionary."""
        fresh = [self.dictionary.of_untrained(number) for number in range(NETWORKS)]
        own = {
            f"untrained_{number}{part}": stage
            for number, of in enumerate(fresh)
            for part, stage in (
                ("", of),
                ("_activations", of.activations),
                ("_network", of.activations.dt),
            )
        }
        return {
            "activations": self.dictionary.activations,
            "dataset": self.dictionary.activations.dataset,
            "controls": self.dictionary.controls(),
            **own,
        }

    def resources(self) -> Resources:
        """Windows and episodes with every dictionary, and the rows of a hook."""
        dictionary = self.dictionary
        sizes = self.dt.sizes
        if sizes is None:
            return Resources()
        hooks = len(dictionary.chosen)
        several = len(dictionary.width) * len(dictionary.sparsities)
        own = hooks * (several * (len(dictionary.seeds) + len(HOWS)) + 3 * len(self.components) + 3)
        fresh = NETWORKS * hooks * several
        played = len(self.targets) * (own * self.episodes + 2 * NETWORKS * self.control_episodes)
        # A step of an episode computes its new tokens alone: an episode is about one window.
        needed = self.dt.passing((own + fresh) * self.windows + played)
        rows = dictionary.activations.resources().all_disk
        encoded = (own + fresh) * rows / 2 * max(dictionary.width)
        return dataclasses.replace(
            needed,
            memory={
                **needed.memory,
                "the stored activations": 2.0 * rows,
                "windows": 8.0 * self.windows * sizes.tokens * sizes.n_actions,
            },
            seconds=needed.seconds
            + encoded / OPERATIONS
            + 1e-4 * played * self.env.horizon
            + 0.2 * own * len(self.targets),
        )

    def compute(self) -> Result:
        """Load all dictionaries and judge them."""
        from dtx.analysis.dictionaries.compute import compute

        made = self.derived()
        fresh = [made[f"untrained_{number}"] for number in range(NETWORKS)]
        return compute(
            self,
            self._network(self.dictionary),
            self.dictionary.controls().load(),
            [self._network(of) for of in fresh if isinstance(of, DictionaryStage)],
            self.env,
            self.dictionary.activations.dataset.load(),
            self.dictionary.held_out.value,
        )

    def _network(self, of: DictionaryStage) -> Network:
        from dtx.analysis.dictionaries.candidates import Network

        own = of is self.dictionary
        model = self.model() if own else of.activations.dt.load()
        return Network(model, of.activations.load(), of.load())

    def curves(self, result: Result) -> Iterator[tuple[str, int, float]]:
        """Return kept over L0 of every kind; the step is the L0, rounded."""
        table = result.tables["groups"]
        table = table[(table["measure"] == KEPT) & (table["kind"] != MEAN)]
        for row in table[table["value"].notna()].itertuples():
            yield f"return kept by L0/{row.kind}, RTG {row.target:g}", round(row.l0), row.value

    def figures(self, result: Result) -> Iterator[tuple[str, Figure | Page]]:
        """``dictionaries``: what is kept over L0, and how often features are on; more hooks, more figures."""
        from dtx.analysis.dictionaries.plots import draw, hooks_of, page

        for number, hook in enumerate(hooks_of(result)):
            yield "dictionaries" + (f"_{number + 1}" if number else ""), draw(result, self, hook)
        yield "dictionaries", page(result, self)
