"""Verdicts on the MemoryDT study's claims about behaviour, each with a control that can fail.

The four layouts are all there are: numbers over them have no interval. Poses are counted by the cell: its
directions share nearly all of their way. Untrained models are held to the same statistic.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pandas as pd

from dtx.analysis.core.controls import spread
from dtx.analysis.core.policies import unmoved
from dtx.analysis.core.verdicts import About, Claim, Control, Relation, Verdict
from dtx.analysis.psychology.measure import PolicyMeasures
from dtx.analysis.psychology.numbers import (
    HIGH,
    LOW,
    PolicyNumbers,
    blind_routine,
    decision_squares,
    numbers_of,
)
from dtx.analysis.psychology.spec import TRAINED, PsychologySpec
from dtx.env.decision import Decision
from dtx.statistics import Estimate, enumerated, mean_estimate, share_estimate

MAJORITY = 0.5
ABOVE, BELOW = Relation.ABOVE, Relation.BELOW
CONTROL = (
    "largest divergence between layouts that ask for different turns, against untrained models"
)
"""Without it the model decides nothing, or as any network of its shape would."""


class Judge:
    """A model's behaviour beside that of untrained ones.

    Args:
        spec: Settings.
        decision: Of the environment.
        measured: Policies and episodes.
    """

    def __init__(self, spec: PsychologySpec, decision: Decision, measured: PolicyMeasures):
        self.spec, self.decision, self.measured = spec, decision, measured
        places = [spec.targets.index(spec.low), spec.targets.index(spec.high)]
        self.own = numbers_of(decision, measured.poses, measured.probability[places])
        self.untrained: Sequence[PolicyNumbers] = [
            numbers_of(decision, measured.poses, each) for each in measured.untrained
        ]
        self.on = measured.poses.on_routine(decision)  # y p
        self.layouts = len(decision.layouts)
        self.squares = {
            t: decision_squares(spec, measured.divergence, TRAINED, t)
            for t in (spec.low, spec.high)
        }
        if np.isnan(self.own.between):
            self.why: str | None = "the context does not reach back from the decision to the start"
        else:
            self.why = unmoved(
                measured.reads_it, self.own.between, spec.threshold, spec.low, spec.high
            )

    def control(self) -> Control:
        """That the model tells layouts apart better than any untrained model, somewhere at either target."""
        own, others = self._beside(lambda n: float(n.divergence.max()))
        return Control.of(CONTROL, own, ABOVE, others)

    def metrics(self) -> dict[str, float | None]:
        """Numbers by reward-to-go; the largest of untrained models beside."""
        own, measured = self.own, self.measured
        states = measured.states[measured.states.model == TRAINED]
        metrics: dict[str, float | None] = {
            "poses": float(len(measured.poses.pose)),
            "blind_routine_share": blind_routine(self.decision),
            "reward_to_go_divergence": own.between,
        }
        for name, target, at in (("low", self.spec.low, LOW), ("high", self.spec.high, HIGH)):
            squares, part = self.squares[target], states[states.target == target]
            start = part[part.steps == 0]
            metrics |= {
                f"decision_squares_{name}": float(len(squares.cells)),
                f"decision_poses_{name}": float(squares.poses),
                f"decision_squares_before_turn_{name}": float(squares.before_turn),
                f"first_action_confidence_{name}": float(start.confidence.mean()),
                f"entropy_{name}_on": float(own.entropy[at][self.on].mean()),
                f"entropy_{name}_off": float(own.entropy[at][~self.on].mean()),
            }
            for key, of in (
                (f"routine_share_{name}", lambda n, t=at: n.routine_share[t]),
                (f"routine_probability_{name}", lambda n, t=at: n.routine_probability[t]),
                (f"largest_divergence_{name}", lambda n, t=at: n.divergence[t].max()),
                (f"non_kinetic_{name}", lambda n, t=at: n.non_kinetic[t].mean()),
            ):
                value, others = self._beside(of)
                metrics |= {key: value.value, f"untrained_{key}": others.high}
        for name, values in (
            ("right", own.forward_after_right),
            ("wrong", own.forward_after_wrong),
        ):
            metrics[f"forward_after_{name}_turn"] = float(values.mean())
            metrics[f"walks_on_after_{name}_turn"] = float((values > MAJORITY).mean())
        metrics["forward_at_decision"] = float(own.forward_there.mean())
        high = measured.play[measured.play.target == self.spec.high]
        for row in high.itertuples():
            metrics[f"look_back_{row.layout.replace('/', '_')}"] = float(row.looks_back)
        return metrics

    def claims(self) -> Iterator[Claim]:
        """All of them."""
        yield self._routine()
        yield self._square()
        yield self._cached()
        yield self._diffuse()
        yield self._non_kinetic()
        yield self._looks_back()

    def _beside(self, of: Callable[[PolicyNumbers], float]) -> tuple[Estimate, Estimate]:
        return (
            enumerated(of(self.own), self.layouts, of="layouts"),
            spread(of(n) for n in self.untrained),
        )

    @property
    def _ahead(self) -> tuple[bool, Estimate, Estimate]:
        """Whether layouts diverge more at the high target than in untrained models, each at its largest."""
        own, others = self._beside(lambda n: float(n.divergence[HIGH].max()))
        return bool(ABOVE.decides(own, others)), own, others

    def _routine(self) -> Claim:
        share, others = self._beside(lambda n: float(n.routine_share[HIGH]))
        chance, any_ = self._beside(lambda n: float(n.routine_probability[HIGH]))
        blind = blind_routine(self.decision)
        beyond = share.value > max(blind, others.high) and bool(ABOVE.decides(chance, any_))
        low = self.own.routine_share[LOW], self.own.routine_probability[LOW]
        return Claim(
            id="set_routine",
            text="a set routine",
            criterion=f"at {self.spec.high:g} the most probable action is the routine's at all its states, "
            "in every layout; in more layouts than a policy that cannot tell them apart, or any untrained "
            "model; depends: in some",
            evidence=f"{share.value:.0%} of {self.layouts} layouts at {self.spec.high:g}, {low[0]:.0%} at "
            f"{self.spec.low:g} (blind to layouts {blind:.0%}, untrained at most {others.high:.0%}); mean "
            f"probability {chance.value:.2f} and {low[1]:.2f} (untrained at most {any_.high:.2f})",
            verdict=Verdict.of(beyond and share.value == 1, partly=beyond),
        )

    def _square(self) -> Claim:
        ahead, top, others = self._ahead
        squares = self.squares[self.spec.high]
        low = self.squares[self.spec.low]
        return Claim(
            id="one_decision_square",
            text="one decision square",
            criterion=f"at {self.spec.high:g} the poses over {self.spec.threshold:g} nats lie on one cell, "
            "and the largest divergence is above that of every untrained model; depends: one before the turn",
            evidence=f"{len(squares.cells)} ({squares.poses} poses), before the turn "
            f"{squares.before_turn}; at most {top.value:.2f} nats, untrained {others.high:.2f}; at "
            f"{self.spec.low:g}: {len(low.cells)}",
            verdict=Verdict.of(
                len(squares.cells) == 1 and ahead, partly=squares.before_turn == 1 and ahead
            ),
        )

    def _cached(self) -> Claim:
        own = self.own
        ahead, _, _ = self._ahead
        decides = ahead and self.squares[self.spec.high].before_turn > 0
        reached = not np.isnan(own.walks_on).any()
        # A policy that walks on whatever happens has cached nothing: it must not walk on before the turn.
        walks = (own.forward_after_wrong > MAJORITY) & (own.forward_there < MAJORITY)
        least, others = self._beside(lambda n: float(n.walks_on.min()))
        most, any_ = self._beside(lambda n: float(n.walks_on.max()))
        if not decides or not reached:
            verdict = Verdict.NOT_APPLICABLE
        else:
            verdict = Verdict.of(
                bool(walks.all()) and bool(ABOVE.decides(least, others)),
                partly=bool(walks.any()) and bool(ABOVE.decides(most, any_)),
            )
        why = "" if decides else "the model decides nowhere before the turn; "
        return Claim(
            id="decision_cached",
            text="the decision is cached in the turn",
            criterion=f"at {self.spec.high:g}, P(forward) > {MAJORITY:g} after a turn forced to the wrong "
            "side and less before it, in every layout, and its rise above every untrained model's; depends: "
            "in some",
            evidence=f"{why}P(forward) {own.forward_there.mean():.2f} at the decision, "
            f"{own.forward_after_wrong.mean():.2f} after the wrong turn ({walks.mean():.0%} of "
            f"{self.layouts} layouts), {own.forward_after_right.mean():.2f} after the right one; least rise "
            f"{least.value:+.2f} (untrained at most {others.high:+.2f})",
            verdict=verdict,
        )

    def _by_cell(self, values: np.ndarray, where: np.ndarray) -> Estimate:
        """Mean over poses and layouts (flat, of where (y, p)), with the cell as what is independent."""
        cells = np.array([f"{x},{y}" for x, y, _ in self.measured.poses.pose])
        names = np.broadcast_to(cells, where.shape)[where]
        return mean_estimate(values, clusters=names, of="cells")

    def _diffuse(self) -> Claim:
        off = ~self.on
        rise = self._by_cell(self.own.difference(self.own.entropy, off), off)
        chance = spread(abs(n.difference(n.entropy, off).mean()) for n in self.untrained)
        beside, any_ = self._beside(lambda n: n.beside_routine(self.on))
        more = ABOVE.decides(rise, chance)
        low = self.own.entropy[LOW]
        return Claim(
            id="diffuse_off_routine",
            text=f"diffuse off the routine at {self.spec.low:g}",
            criterion=f"entropy off the routine above that at {self.spec.high:g} by more than in any "
            "untrained model, and so above that on the routine; depends: only the first",
            evidence=self.why
            or f"{low[off].mean():.2f} nats off, {low[self.on].mean():.2f} on (difference "
            f"{beside.value:+.2f}, untrained at most {any_.high:+.2f}); {rise.value:+.2f} [{rise.low:.2f}, "
            f"{rise.high:.2f}] against {self.spec.high:g} ({rise.kind}; untrained at most "
            f"{chance.high:.2f})",
            about=About.REWARD_TO_GO,
            verdict=self._reward_to_go(more, bool(ABOVE.decides(beside, any_))),
        )

    def _non_kinetic(self) -> Claim:
        own, everywhere = self.own, np.ones_like(self.on)
        rise = self._by_cell(own.difference(own.non_kinetic, everywhere), everywhere)
        chance = spread(abs(n.difference(n.non_kinetic, everywhere).mean()) for n in self.untrained)
        low, high = own.non_kinetic[LOW].mean(), own.non_kinetic[HIGH].mean()
        return Claim(
            id="non_kinetic_mass",
            text=f"mass on non-kinetic actions at {self.spec.low:g}",
            criterion=f"more than at {self.spec.high:g}: the interval of the difference is above that of any "
            "untrained model",
            evidence=self.why
            or f"{low:.3f} against {high:.3f}, {rise.value:+.3f} [{rise.low:.3f}, {rise.high:.3f}] "
            f"({rise.kind}), untrained at most {chance.high:.3f}",
            about=About.REWARD_TO_GO,
            verdict=self._reward_to_go(ABOVE.decides(rise, chance), True),
        )

    def _reward_to_go(self, more: bool | None, rest: bool) -> Verdict:
        if self.why:
            return Verdict.NOT_APPLICABLE
        return Verdict.of(rest, partly=True) if more else Verdict.judge([more])

    def _looks_back(self) -> Claim:
        """Where most episodes look back; the other layouts are the control: a random walk does in all."""
        names, there = (
            self.decision.layouts,
            0,
        )  # the instruction is a key, and the matching key is up
        play = pd.DataFrame(self.measured.play[self.measured.play.target == self.spec.high])
        rows = {r.layout: r for r in play.itertuples()}
        back = {
            name: share_estimate(
                round(rows[name].looks_back * rows[name].episodes), rows[name].episodes
            )
            for name in names
        }
        above = {name: ABOVE.decides(back[name], MAJORITY) for name in names}
        conditions = [above[names[there]]]
        conditions += [BELOW.decides(back[name], MAJORITY) for name in names[1:]]
        verdict = Verdict.judge(conditions)
        if verdict is not Verdict.CONFIRMED and True in above.values() and False in above.values():
            verdict = Verdict.DEPENDS
        place = self.measured.poses.after(self.decision.routine(there)[: self.decision.step])
        _, wrong = self.decision.turns([there])
        policy = self.measured.probability[self.spec.targets.index(self.spec.low), there]
        turn = float("nan") if place is None else policy[place, wrong[0]]
        shares = ", ".join(
            f"{name} {b.value:.2f} [{b.low:.2f}, {b.high:.2f}]" for name, b in back.items()
        )
        return Claim(
            id="looks_back",
            text=f"looks back at {self.spec.high:g} in {names[there]} alone",
            criterion="over half of the sampled episodes face back there, under half in every other layout; "
            "depends: in some layouts over half, in some under (the study; at "
            f"{self.spec.low:g} it turns right with .88 there)",
            evidence=f"{shares} ({back[names[0]].kind} each); wrong turn there at {self.spec.low:g}: "
            f"{turn:.2f}",
            verdict=verdict,
        )
