"""The numbers of one dictionary in one network.

Letters: r targets, e episodes, s states, a actions, d activation.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from torch import Tensor

from dtx.activations.stored import Part
from dtx.analysis.core.result import Check, largest
from dtx.analysis.dictionaries.candidates import Candidate, Network, at_mean
from dtx.analysis.dictionaries.measure import Policy, Rows, States, reconstruct
from dtx.analysis.dictionaries.numbers import gap, kept, measurable
from dtx.analysis.dictionaries.play import Play, differing, play
from dtx.analysis.dictionaries.spec import (
    EDGES,
    EXPLAINED,
    FLIPS,
    KEPT,
    RETURN,
    TOLERANCE,
    DictionariesSpec,
)
from dtx.dataset.episodes import OUTCOMES
from dtx.dt.rollout import Place
from dtx.estimate import Estimate
from dtx.statistics import mean_estimate, share_estimate


@dataclass
class Lines:
    """Lines of the tables, as they come."""

    dictionaries: list[dict[str, Any]] = field(default_factory=list)
    numbers: list[dict[str, Any]] = field(default_factory=list)
    outcomes: list[dict[str, Any]] = field(default_factory=list)
    density: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Unedited:
    """What a network does without a dictionary: shared by all hooks.

    Attributes:
        states: Windows that are read. logits_sa: The network's there. play: Its episodes.
    """

    states: States
    logits_sa: Tensor
    play: Play


class Judge:
    """Measures dictionaries of one hook of one network.

    Args:
        spec: What is asked for and how much is played.
        network: Whose.
        unedited: What the network does.
        mean: Mean ablation at the hook, against which all else is measured.
        env: Where it acts.
        split: By what rows are held out.
        episodes: Played at each target.
    """

    def __init__(
        self,
        spec: DictionariesSpec,
        network: Network,
        unedited: Unedited,
        mean: Candidate,
        env: Place,
        split: str,
        episodes: int,
    ):
        self.spec, self.network, self.unedited = spec, network, unedited
        self.mean, self.env, self.episodes = mean, env, episodes
        self.rows = Rows.of(network.stored, mean.hook, split, Part.HELD_OUT)
        self.mean_policy = self._policy(mean)
        self.mean_play = self._play(mean)
        both = np.stack([unedited.play.returns_re, self.mean_play.returns_re])
        # How far two returns can be apart: as far as 0 and 1, or as was seen.
        self.width = max(float(both.max()), 1.0) - min(float(both.min()), 0.0)
        pairs = zip(unedited.play.returns_re, self.mean_play.returns_re, strict=True)
        self.plays = any(measurable(gap(*pair, self.width)) for pair in pairs)

    def add(self, candidate: Candidate, lines: Lines, always: bool = True) -> None:
        """Measure a dictionary.

        Args:
            candidate: Of this hook.
            lines: Where its numbers are added.
            always: Play, even where mean ablation costs no return of which a share could be kept.
        """
        of = reconstruct(candidate.sae, self.rows)
        size = {"l0": of.l0, "dead_share": of.dead_share}
        lines.dictionaries.append({**candidate.about, **size})
        lines.density += [{**candidate.about, **bin} for bin in _binned(of.density_f)]
        numbers: list[tuple[str, float, Estimate]] = [(EXPLAINED, np.nan, of.explained)]
        policy = self.mean_policy if candidate is self.mean else self._policy(candidate)
        for measure, number in policy.numbers(self.mean_policy, self.unedited.states.episode_s):
            numbers.append((measure, np.nan, number))
        if always or self.plays:
            played = self.mean_play if candidate is self.mean else self._play(candidate)
            numbers += self._returns(played)
            for target, outcome_e in zip(self.spec.targets, played.outcome_re, strict=True):
                shares = {name: float((outcome_e == i).mean()) for i, name in enumerate(OUTCOMES)}
                lines.outcomes.append({**candidate.about, "target": target, **shares})
        for measure, target, number in numbers:
            row = {"measure": measure, "target": target, "value": number.value, **number.columns()}
            lines.numbers.append({**candidate.about, "l0": of.l0, **row})

    def _returns(self, played: Play) -> Iterator[tuple[str, float, Estimate]]:
        own, mean = self.unedited.play, self.mean_play
        for i, target in enumerate(self.spec.targets):
            yield RETURN, target, mean_estimate(played.returns_re[i])
            three = (played.returns_re[i], own.returns_re[i], mean.returns_re[i])
            yield KEPT, target, kept(*three, self.width)
            flipped = int((played.outcome_re[i] != own.outcome_re[i]).sum())
            yield FLIPS, target, share_estimate(flipped, self.episodes)

    def checks(self, identity: Candidate, trained: Candidate) -> Iterator[Check]:
        """What must hold exactly, whatever the network has learnt.

        Args:
            identity: The dictionary without an error. trained: Any other one, for its error term.
        """
        spec, model, hook = self.spec, self.network.model, self.mean.hook
        few = min(spec.control_episodes, self.episodes)
        exact = self._policy(identity)
        apart = differing(spec, model, self.env, few, None, self._spliced(identity))
        away = abs(1 - reconstruct(identity.sae, self.rows).explained.value)
        yield Check(
            name=f"the identity explains all of {hook}: 0 nats, and episodes action for action",
            error=largest([away, float(exact.kl_s.max()), apart]),
            tolerance=TOLERANCE,
        )
        mean_d = self.mean.sae.weights["b_dec"]
        directly_sa = self.unedited.states.logits(model, at_mean(model, hook, mean_d))
        with_mean = Policy.of(self.unedited.logits_sa, directly_sa)
        apart = differing(
            spec, model, self.env, few, at_mean(model, hook, mean_d), self._spliced(self.mean)
        )
        nothing = abs(reconstruct(self.mean.sae, self.rows).explained.value)
        off = float(np.abs(with_mean.kl_s - self.mean_policy.kl_s).max())
        yield Check(
            name=f"without features, {hook} is its mean, and nothing is explained or recovered",
            error=largest([nothing, off, apart]),
            tolerance=TOLERANCE,
        )
        with_error = trained.sae.spliced(model, error_term=True)
        logits_sa = self.unedited.states.logits(model, with_error)
        scale = float(self.unedited.logits_sa.abs().max())
        away = float((logits_sa - self.unedited.logits_sa).abs().max()) / max(scale, 1.0)
        yield Check(
            name=f"with the error term of {hook} logits are the model's",
            error=away,
            tolerance=TOLERANCE,
        )
        with_error = trained.sae.spliced(model, error_term=True)
        yield Check(
            name=f"with the error term of {hook} episodes are the model's, action for action",
            error=differing(spec, model, self.env, few, None, with_error),
            tolerance=0,
        )

    def _spliced(self, candidate: Candidate) -> Any:
        return candidate.sae.spliced(self.network.model, error_term=False)

    def _policy(self, candidate: Candidate) -> Policy:
        edited_sa = self.unedited.states.logits(self.network.model, self._spliced(candidate))
        return Policy.of(self.unedited.logits_sa, edited_sa)

    def _play(self, candidate: Candidate) -> Play:
        spliced = self._spliced(candidate)
        return play(self.spec, self.network.model, self.env, self.episodes, spliced)


def _binned(density_f: np.ndarray) -> Iterator[dict[str, float]]:
    with np.errstate(divide="ignore"):
        power_f = np.log10(density_f)
    for i, (low, high) in enumerate(pairwise(EDGES)):
        inside = (power_f > low) & (power_f <= high)
        if not i:  # never on, and nearly never
            dead = power_f == low
            yield {"from": low, "to": low, "features": int(dead.sum())}
        yield {"from": low, "to": high, "features": int(inside.sum())}
