"""From attention and its effects to numbers, and to verdicts on the study's claims.

All are over the four layouts, which are all there are, and held against the same number of untrained models.
Letters: c compared targets (low, high), l layers, h heads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from dtx.analysis.attention.patterns import Attended, choosing, specificity, total_variation
from dtx.analysis.attention.spec import INSTRUCTION, AttentionSpec
from dtx.analysis.attention.tables import leads, looks, switching
from dtx.analysis.core.controls import spread
from dtx.analysis.core.policies import unmoved
from dtx.analysis.core.verdicts import About, Claim, Control, Relation, Verdict
from dtx.dt.names import head_name
from dtx.dt.tokens import NamedTokens as Tokens
from dtx.statistics import Estimate, enumerated

CONTROL = "largest effect of one head's attention, spread evenly instead"
"""Of which untrained models have less: without it patterns say nothing about the decision."""


ROUNDING = 1e-5
"""A share of the logits that float32 may miss: a smaller effect is none (2026-11-29)."""


@dataclass(frozen=True)
class HeadNumbers:
    """Of one model, means over layouts and over the tokens that have a choice.

    Attributes:
        specific: (c, l, h) total variation from even attention, by kind of key.
        varied: (l, h) total variation of attention between the low and the high target.
        even, moved: (c, l, h) effects, see :class:`Attended`.
        switching: (layer, head, query kind), see :func:`switching`.
        looks: The table behind it.
        divergence: Of the policies at the two targets.
        layouts: How many.
    """

    specific: np.ndarray
    varied: np.ndarray
    even: np.ndarray
    moved: np.ndarray
    switching: list[tuple[int, int, str]]
    looks: pd.DataFrame
    divergence: float
    layouts: int

    def weighted(self, target: int, layer: int) -> float:
        """Specificity of a layer, heads weighted by the effect of their attention."""
        weight = np.where(self.even[target, layer] > ROUNDING, self.even[target, layer], 0)
        total = weight.sum()
        return float((weight * self.specific[target, layer]).sum() / total) if total > 0 else 0.0

    @property
    def largest_effect(self) -> float:
        """Of one head's even attention, in any layer and at either target."""
        return float(self.even.max())


def head_numbers(
    spec: AttentionSpec, of: Attended, tokens: Tokens, layouts: list[str]
) -> HeadNumbers:
    """Reduce what a model attends to."""
    low, high = spec.compared.values()
    real = choosing(tokens)
    table = looks(spec, of.pattern, tokens, layouts)
    pair = of.pattern[[low, high]]
    return HeadNumbers(
        specific=specificity(pair, tokens)[..., real].mean((1, -1)),
        varied=total_variation(pair, 1)[0][..., real].mean((0, -1)),
        even=of.even,
        moved=of.moved,
        switching=switching(spec, table),
        looks=table,
        divergence=of.divergence,
        layouts=len(layouts),
    )


@dataclass(frozen=True)
class Judge:
    """A model's numbers and those of untrained ones.

    Attributes:
        spec: Settings. own: Of the model. untrained: Of the others.
        reads_it: The model has reward-to-go tokens.
    """

    spec: AttentionSpec
    own: HeadNumbers
    untrained: Sequence[HeadNumbers]
    reads_it: bool

    def control(self) -> Control:
        """That the decision depends more on where one head looks than in any untrained model."""
        value = enumerated(self.own.largest_effect, self.own.layouts)
        against = spread(n.largest_effect for n in self.untrained)
        return Control.of(f"{CONTROL}, against untrained models", value, Relation.ABOVE, against)

    def metrics(self) -> dict[str, float | None]:
        """By layer: specificity, total variation, effects; the largest of untrained models beside."""
        values: dict[str, float | None] = {}
        for layer in range(len(self.own.varied)):
            for name, target in (("low", 0), ("high", 1)):
                numbers = {
                    f"specificity_l{layer}_{name}": lambda n, t=target, i=layer: n.weighted(t, i),
                    f"effect_l{layer}_{name}": lambda n, t=target, i=layer: n.even[t, i].max(),
                    f"moved_l{layer}_{name}": lambda n, t=target, i=layer: n.moved[t, i].max(),
                }
                values |= self._beside(numbers)
            tv = {
                f"tv_l{layer}": lambda n, i=layer: n.varied[i].mean(),
                f"tv_l{layer}_best_head": lambda n, i=layer: n.varied[i].max(),
            }
            values |= self._beside(tv)
        values |= self._beside({"switching_heads": lambda n: len(n.switching)})
        values["reward_to_go_divergence"] = self.own.divergence
        return values

    def _beside(self, numbers) -> dict[str, float | None]:
        return {
            key: float(value)
            for name, of in numbers.items()
            for key, value in (
                (name, of(self.own)),
                (f"untrained_{name}", max(of(n) for n in self.untrained)),
            )
        }

    def heads(self) -> pd.DataFrame:
        """One row a layer, head and compared target; see :func:`compute`."""
        c, layers, heads = self.own.even.shape
        targets = [self.spec.low, self.spec.high]
        index = pd.MultiIndex.from_product(
            [targets, range(layers), range(heads)], names=["target", "layer", "head"]
        )
        table = pd.DataFrame(index=index).reset_index()
        table["specificity"] = self.own.specific.ravel()
        table["total_variation"] = np.broadcast_to(self.own.varied, (c, layers, heads)).ravel()
        for name, of in (("even", lambda n: n.even), ("moved", lambda n: n.moved)):
            bar = np.max([of(n).max(-1) for n in self.untrained], 0)  # of the best head of each
            table[f"effect_{name}"] = of(self.own).ravel()
            table[f"untrained_{name}"] = np.repeat(bar.ravel(), heads)
        table["matters"] = table.effect_even > table.untrained_even
        value = enumerated(0.0, self.own.layouts)
        return table.assign(n=value.n, interval=value.kind)

    def claims(self) -> Iterator[Claim]:
        """The study's claims about attention."""
        yield self._specific()
        why = unmoved(
            self.reads_it, self.own.divergence, self.spec.threshold, self.spec.low, self.spec.high
        )
        yield self._moves(why)
        yield self._switches(why)

    def _against(self, of) -> tuple[Estimate, Estimate]:
        return enumerated(of(self.own), self.own.layouts), spread(of(n) for n in self.untrained)

    def _specific(self) -> Claim:
        holds, words = [], []
        for target, asked in ((1, self.spec.high), (0, self.spec.low)):
            own, chance = self._against(lambda n, t=target: n.weighted(t, 0))
            effect, weak = self._against(lambda n, t=target: float(n.even[t, 0].max()))
            above = Relation.ABOVE
            holds.append(bool(above.decides(own, chance) and above.decides(effect, weak)))
            words.append(
                f"at {asked:g} {own.value:.2f} (untrained at most {chance.high:.2f}), largest effect "
                f"{effect.value:.2f} ({weak.high:.2f})"
            )
        return Claim(
            id="specific_to_modalities",
            text="attention in layer 0 is specific to modalities",
            criterion="total variation from even attention, heads weighted by the effect of where they look, "
            "above every untrained model's, and so the largest effect, at both targets; depends: at one",
            evidence="; ".join(words) + self._basis(),
            verdict=Verdict.of(all(holds), partly=any(holds)),
        )

    def _moves(self, why: str | None) -> Claim:
        best, chance = self._against(lambda n: float(n.varied[0].max()))
        mean, mean_chance = self._against(lambda n: float(n.varied[0].mean()))
        # A head counts if its attention moves more, and matters more where it moves, than untrained ones.
        far = self.own.varied[0] > chance.high
        bars = [spread(n.moved[t, 0].max() for n in self.untrained) for t in (0, 1)]
        beyond = [far & (self.own.moved[t, 0] > bars[t].high) for t in (0, 1)]
        some, both = (beyond[0] | beyond[1]).any(), (beyond[0] & beyond[1]).any()
        head = int(self.own.varied[0].argmax())
        effect = "; ".join(
            f"its attention at {other:g} put into the run at {asked:g} moves the logits by "
            f"{self.own.moved[t, 0, head]:.2f} of their size (untrained at most {bars[t].high:.2f})"
            for t, asked, other in (
                (0, self.spec.low, self.spec.high),
                (1, self.spec.high, self.spec.low),
            )
        )
        return Claim(
            id="reward_to_go_moves_attention",
            text="reward-to-go moves attention in layer 0",
            criterion=f"total variation {self.spec.low:g} to {self.spec.high:g} of the heads' mean, and of a "
            "head whose moved attention has an effect in both directions, above every untrained model's; "
            "depends: of a head with an effect in one direction",
            evidence=why
            or f"mean {mean.value:.2f} (untrained at most {mean_chance.high:.2f}), "
            f"most by {head_name(0, head)} {best.value:.2f} ({chance.high:.2f}); {effect}"
            + self._basis(),
            verdict=Verdict.NOT_APPLICABLE
            if why
            else Verdict.of(bool(both and mean.value > mean_chance.high), partly=bool(some)),
            about=About.REWARD_TO_GO,
        )

    def _switches(self, why: str | None) -> Claim:
        bars = np.max([n.moved.max(-1) for n in self.untrained], 0)  # c l
        heads = [
            (layer, head, kind)
            for layer, head, kind in self.own.switching
            if (self.own.moved[:, layer, head] > bars[:, layer]).any()
        ]
        chance = max(len(n.switching) for n in self.untrained)
        first = {kind for layer, _, kind in heads if layer == 0}
        names = ", ".join(f"{head_name(layer, head)} from {kind}" for layer, head, kind in heads)
        idle = len(self.own.switching) - len(heads)
        found = f"{names or 'no head'} (untrained: at most {chance}; without effect: {idle})"
        more = len(heads) > chance
        return Claim(
            id="switches_to_reward_to_go",
            text=f"states and actions look at {INSTRUCTION} at {self.spec.high:g} and at an R token "
            f"at {self.spec.low:g}",
            criterion=f"heads of layer 0 prefer each by {self.spec.margin:g}, for states and for actions, "
            "and their moved attention has an effect above every untrained model's; untrained models have "
            "fewer; depends: in some layer",
            evidence=why or found + self._nearest() + self._basis(),
            verdict=Verdict.NOT_APPLICABLE
            if why
            else Verdict.of(more and len(first) == 2, partly=more),
            about=About.REWARD_TO_GO,
        )

    def _nearest(self) -> str:
        """The layer-0 head whose preference for the instruction's state changes most between the targets."""
        lead = leads(self.own.looks).loc[0]
        change = lead[self.spec.high] - lead[self.spec.low]
        head, kind = change.idxmax()
        low, high = (lead.loc[(head, kind), t] for t in (self.spec.low, self.spec.high))
        return (
            f"; most: {head_name(0, head)} from {kind}, {INSTRUCTION} minus R {high:+.2f} "
            f"at {self.spec.high:g}, {low:+.2f} at {self.spec.low:g}"
        )

    def _basis(self) -> str:
        return f"; all {self.own.layouts} layouts, {len(self.untrained)} untrained models"
