"""Where an edit moves the decision: only there it can be asked what carries it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from dtx.analysis.core.effects import words
from dtx.analysis.core.patching_spec import EDIT, Direction
from dtx.analysis.core.untrained import seen_in, twins
from dtx.analysis.core.verdicts import Relation
from dtx.dt.context import Context
from dtx.dt.model import DecisionTransformerModel
from dtx.pairs.pair_set import PairBatch
from dtx.statistics import Estimate, mean_estimate

EXCEEDED = 20
"""Untrained models of the same architecture; an edit must move the decision further than in any of them, by
the same statistic, the largest over edits and rewards-to-go (2026-11-30: one in 21 untrained models then
passes by luck in any of them)."""
Key = tuple[str, float]
"""Edit and reward-to-go."""


@dataclass(frozen=True)
class Condition:
    """Where an edit is measured: what is patched into what, and the reward-to-go that is asked for."""

    edit: str
    direction: Direction
    target: float

    def __str__(self) -> str:
        return f"{self.direction.value}, RTG {self.target:g}"

    def rows(self, table: pd.DataFrame) -> pd.DataFrame:
        """The rows of a table that are measured there."""
        here = (table["edit"] == self.edit) & (table["reward_to_go"] == self.target)
        return pd.DataFrame(table[here & (table["direction"] == self.direction.value)])


def aligned(runs: pd.DataFrame) -> pd.Series:
    """How far an edit takes the decision back, in logits: the change of LD towards the clean run's side.

    Of one sign in all layouts if the edit moves the decision, whichever turn a layout asks for; of either
    sign if it shifts the logits alike everywhere.
    """
    return pd.Series((runs["ld_clean"] - runs["ld_corrupt"]) * np.sign(runs["ld_clean"]))


@dataclass(frozen=True)
class Gaps:
    """How far edits move the decision, and in which conditions a rho means something.

    Attributes:
        size: Mean of :func:`aligned` over layouts, by edit and reward-to-go.
        least: Logits by which it must move. untrained: The largest mean of untrained models, either sign.
        unread: Edits that change no logit difference in any pair, not by the last bit: the model does not
            read what they edit.
    """

    size: Mapping[Key, Estimate]
    least: float
    untrained: Mapping[Key, float]
    unread: frozenset[str] = frozenset()

    @staticmethod
    def of(runs: pd.DataFrame, least: float, untrained: Mapping[Key, float]) -> Gaps:
        """From the rows of :meth:`dtx.analysis.core.patching.PairRuns.table`."""
        edited = runs[runs["kind"] == EDIT]
        moved = aligned(edited)
        size = {
            _key(key): mean_estimate(
                moved.loc[rows.index].to_numpy(), clusters=rows["variant"].to_numpy(), of="layouts"
            )
            for key, rows in edited.groupby(["edit", "reward_to_go"], sort=False)
        }
        same = (edited["ld_clean"] == edited["ld_corrupt"]).groupby(edited["edit"]).all()
        return Gaps(size, least, untrained, frozenset(same.index[same].astype(str)))

    def there(self, condition: Condition) -> bool | None:
        """Whether the edit moves the decision there, beyond its interval and untrained models."""
        key = condition.edit, condition.target
        if key not in self.size:
            return False
        size = self.size[key]
        limit = max(self.least, self.most_untrained)
        sides = (Relation.AT_LEAST.decides(size, limit), Relation.AT_MOST.decides(size, -limit))
        return True if True in sides else None if None in sides else False

    @property
    def most_untrained(self) -> float:
        """The furthest that any edit moves an untrained model's decision: one limit for all questions."""
        return max(self.untrained.values(), default=0.0)

    def conditions(self, edit: str, directions: Iterable[Direction]) -> list[Condition]:
        """Where an edit moves the decision, or may (not decided); the highest reward-to-go first."""
        every = self.every(edit, directions)
        return [condition for condition in every if self.there(condition) is not False]

    def every(self, edit: str, directions: Iterable[Direction]) -> list[Condition]:
        """Where an edit was tried, whether it moves anything or not."""
        targets = sorted({t for name, t in self.size if name == edit}, reverse=True)
        return [Condition(edit, d, t) for d in directions for t in targets]

    def words(self, edit: str) -> str:
        """How far it moves the decision, by reward-to-go; or that the model does not read what it edits."""
        if edit in self.unread:
            return "edit changes the logit difference in no pair: the model does not read it"
        keys = sorted((key for key in self.size if key[0] == edit), key=lambda key: -key[1])
        sizes = ", ".join(f"{words(self.size[key])} at RTG {key[1]:g}" for key in keys)
        return (
            f"edit changes the logit difference by {sizes} logits; needed: at least {self.least:g}, and "
            f"more than any edit in untrained models ({self.most_untrained:.2f})"
        )


@torch.inference_mode()
def untrained_runs(
    model: DecisionTransformerModel, batches: Sequence[PairBatch], count: int, seed: int
) -> Iterator[list[tuple[np.ndarray, np.ndarray]]]:
    """Yield, for each of ``count`` untrained models, the logit differences (b,), (b,) of a batch's runs."""
    seen = seen_in([batch.clean for batch in batches])
    for twin in twins(model, count, seed, seen):
        yield [
            (_difference(twin, batch, batch.clean), _difference(twin, batch, batch.corrupt))
            for batch in batches
        ]


def _difference(model: DecisionTransformerModel, batch: PairBatch, context: Context) -> np.ndarray:
    return batch.difference(model.last_logits(context)).double().numpy()


def untrained_gaps(
    model: DecisionTransformerModel, batches: Sequence[PairBatch], count: int = EXCEEDED
) -> dict[Key, float]:
    """How far edits move the logits of untrained models: the largest mean of :func:`aligned` over layouts."""
    largest: dict[Key, float] = {}
    edited = [part for batch in batches if len(part := batch.where(batch.kind(EDIT)))]
    if not edited:
        return largest
    for of_twin in untrained_runs(model, edited, count, 0):
        runs = pd.concat(
            [
                batch.table.assign(ld_clean=clean, ld_corrupt=corrupt)
                for batch, (clean, corrupt) in zip(edited, of_twin, strict=True)
            ],
            ignore_index=True,
        )
        for key, rows in runs.groupby(["edit", "reward_to_go"], sort=False):
            mean = abs(float(aligned(rows).groupby(rows["variant"]).mean().mean()))
            largest[_key(key)] = max(largest.get(_key(key), 0.0), mean)
    return largest


def _key(key: object) -> Key:
    edit, target = key  # type: ignore[misc]
    return str(edit), float(target)
