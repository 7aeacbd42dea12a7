"""Compare the policies of the teacher, the model and the controls at every step of held-out episodes.

Letters: s states (steps of all episodes, one after the other), a actions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from torch import Tensor

from dtx.agent.agent import Agent
from dtx.analysis.core.result import About, Check, Claim, Control, Relation, Result, Verdict
from dtx.analysis.core.untrained import TWINS, twins
from dtx.analysis.teacher.policies import (
    HeldOutEpisodes,
    distinct_episodes,
    first_of,
    held_out,
    log_softmax,
    model_policy,
    n_gram,
    teacher_logits,
)
from dtx.analysis.teacher.spec import DT, N_GRAM, OWN, UNTRAINED, TeacherSpec
from dtx.dataset.episodes import Episodes
from dtx.dt.model import DecisionTransformerModel
from dtx.dt.windows import observation_table
from dtx.progress import progress
from dtx.statistics import Estimate, next_estimate, ratio_estimate
from dtx.training.threads import one_thread

TOLERANCE = 1e-9
COMPARED = 80
"""Held-out episodes on which the untrained models are compared (2026-11-29): they differ from one another by
more than a share of agreement over so many episodes is uncertain."""


@dataclass(frozen=True)
class ComparedPolicy:
    """Log-probabilities (s, a) of a model that was asked for a reward-to-go."""

    model: str
    asked_for: str
    log_p_sa: np.ndarray


def compute(
    spec: TeacherSpec,
    model: DecisionTransformerModel,
    teacher: Agent,
    episodes: Episodes,
) -> Result:
    """Compare a model with its teacher.

    Args:
        spec: What is compared.
        model: Any.
        teacher: The agent that gave the demonstrations.
        episodes: The demonstrations; policies are compared along those held out.

    Returns:
        Table ``comparison``: one row a model, reward-to-go asked for and temperature of the teacher: means
        over states of kl = KL(teacher || model) in nats, agreement (top-1), likelihood (expected
        log-probability of the model's action under the teacher, nats), nll (of the demonstrated actions
        under the model, nats), each with the ends of an interval over episodes (all steps of one count as
        one observation); n (episodes), interval (its kind), episodes, distinct_episodes, states,
        distinct_states.
    """
    replay = held_out(episodes, spec.episodes, spec.seed)
    policies, at_t = _policies(spec, model, teacher, episodes, replay)
    comparison = pd.DataFrame(
        [
            _row(spec, replay, policy, temperature, log_p_sa)
            for policy in policies
            for temperature, log_p_sa in at_t.items()
        ]
    )
    metrics, claims = _judge(spec, comparison, _contrasts(spec, replay, policies, at_t))
    # NumPy's maximum, not Python's: a policy that is no number must not be passed over.
    itself = np.max([np.abs(divergence(p.log_p_sa, p.log_p_sa)).max() for p in policies])
    own = comparison[(comparison.model == DT) & (comparison.asked_for == OWN)]
    return Result(
        metrics=metrics,
        checks=[
            Check(
                name="a policy does not differ from itself",
                error=float(itself),
                tolerance=TOLERANCE,
            )
        ],
        controls=[_control(spec, model, replay, at_t[min(spec.temperatures)], policies)],
        claims=claims,
        tables={"comparison": comparison},
        distinct_inputs=int(own.distinct_episodes.iloc[0]),
    )


def _policies(
    spec: TeacherSpec,
    model: DecisionTransformerModel,
    teacher: Agent,
    episodes: Episodes,
    replay: HeldOutEpisodes,
) -> tuple[list[ComparedPolicy], dict[float, np.ndarray]]:
    """All policies, the teacher's own last; and the teacher's by temperature."""
    asked = [(OWN, replay.reward_to_go)]
    asked += [(f"{t:g}", np.full_like(replay.reward_to_go, t)) for t in spec.targets]
    with one_thread(), progress("teacher", len(asked) + 2, "policies") as bar:
        logits_sa = teacher_logits(teacher, replay)
        gram = n_gram(episodes, replay, spec.n_gram, logits_sa.shape[1])
        policies = [ComparedPolicy(N_GRAM, OWN, gram)]
        bar.advance(1, N_GRAM)
        for name, reward_to_go in asked:
            policies.append(ComparedPolicy(DT, name, model_policy(model, replay, reward_to_go)))
            bar.advance(1, f"reward-to-go {name}")
        (fresh,) = twins(model, 1, spec.seed, _seen(replay))
        policies.append(
            ComparedPolicy(UNTRAINED, OWN, model_policy(fresh, replay, replay.reward_to_go))
        )
        bar.advance(1, UNTRAINED)
    at_t = {t: log_softmax(logits_sa / t) for t in spec.temperatures}
    return policies + [ComparedPolicy(f"teacher, T={t:g}", OWN, p) for t, p in at_t.items()], at_t


def divergence(log_p: np.ndarray, log_q: np.ndarray) -> np.ndarray:
    """KL(p || q) in nats over the last axis, of log-probabilities."""
    return (np.exp(log_p) * (log_p - log_q)).sum(-1)


def by_episode(values: np.ndarray, length: np.ndarray) -> Estimate:
    """Mean of the states' values (s,); all states of an episode are one observation."""
    return ratio_estimate(np.add.reduceat(values, np.cumsum(length) - length), length)


def _agrees(teacher: np.ndarray, policy: np.ndarray) -> np.ndarray:
    """(s,) 1 where the most probable actions are the same."""
    return (teacher.argmax(1) == policy.argmax(1)).astype(float)


def _control(
    spec: TeacherSpec,
    model: DecisionTransformerModel,
    replay: HeldOutEpisodes,
    teacher: np.ndarray,
    policies: list[ComparedPolicy],
) -> Control:
    """Agreement beside where that of one more untrained model would lie."""
    few = first_of(replay, COMPARED)
    shown = teacher[: int(few.length.sum())]
    untrained = [
        _agrees(shown, model_policy(twin, few, few.reward_to_go)).mean()
        for twin in twins(model, TWINS, spec.seed, _seen(replay))
    ]
    return Control.of(
        "share of states with the teacher's most probable action, beside one more untrained model",
        by_episode(_agrees(teacher, _own(policies, DT).log_p_sa), replay.length),
        Relation.ABOVE,
        next_estimate(untrained),
    )


def _seen(replay: HeldOutEpisodes) -> Tensor:
    return observation_table(replay.observations)[:-1]


def _own(policies: list[ComparedPolicy], model: str, asked_for: str = OWN) -> ComparedPolicy:
    return next(p for p in policies if (p.model, p.asked_for) == (model, asked_for))


@dataclass(frozen=True)
class Contrasts:
    """Differences on the same episodes.

    Attributes:
        agreement: The model's less the n-gram's. surprise: The n-gram's nll less the model's, nats.
        hotter: By reward-to-go asked for: likelihood under the hottest teacher less under the coldest.
        moved: The lowest reward-to-go's ``hotter`` less the highest's; None for fewer than two of them.
    """

    agreement: Estimate
    surprise: Estimate
    hotter: dict[float, Estimate]
    moved: Estimate | None


def _contrasts(
    spec: TeacherSpec,
    replay: HeldOutEpisodes,
    policies: list[ComparedPolicy],
    at_t: dict[float, np.ndarray],
) -> Contrasts:
    cold, hot = at_t[min(at_t)], at_t[max(at_t)]
    dt, gram = (_own(policies, name).log_p_sa for name in (DT, N_GRAM))
    taken = np.arange(len(dt)), replay.action[replay.real]
    hotter = {
        t: (np.exp(_own(policies, DT, f"{t:g}").log_p_sa) * (hot - cold)).sum(1)
        for t in sorted(spec.targets)
    }
    ends = list(hotter.values())
    return Contrasts(
        by_episode(_agrees(cold, dt) - _agrees(cold, gram), replay.length),
        by_episode(dt[taken] - gram[taken], replay.length),
        {t: by_episode(values, replay.length) for t, values in hotter.items()},
        by_episode(ends[0] - ends[-1], replay.length) if len(ends) > 1 and len(at_t) > 1 else None,
    )


def _row(
    spec: TeacherSpec,
    replay: HeldOutEpisodes,
    of: ComparedPolicy,
    temperature: float,
    teacher: np.ndarray,
) -> dict[str, str | float]:
    """One policy against the teacher's (s, a) at a temperature."""
    policy = of.log_p_sa
    values = {
        "kl": divergence(teacher, policy),
        "agreement": _agrees(teacher, policy),
        "likelihood": (np.exp(policy) * teacher).sum(1),
        "nll": -policy[np.arange(len(policy)), replay.action[replay.real]],
    }
    row: dict[str, str | float] = {
        "model": of.model,
        "asked_for": of.asked_for,
        "temperature": temperature,
    }
    for key, value in values.items():
        mean = by_episode(value, replay.length)
        row |= {key: mean.value, f"{key}_low": mean.low, f"{key}_high": mean.high}
        row |= {"n": mean.n, "interval": mean.kind}
    both = np.concatenate([policy, teacher], 1).round(6)
    return row | {
        "episodes": len(replay.length),
        "distinct_episodes": distinct_episodes(replay),
        "states": len(policy),
        "distinct_states": len(np.unique(both, axis=0)),
    }


def _judge(
    spec: TeacherSpec, table: pd.DataFrame, found: Contrasts
) -> tuple[dict[str, float | None], list[Claim]]:
    first = min(spec.temperatures)
    rows = table.set_index(["model", "asked_for", "temperature"])
    metrics: dict[str, float | None] = {}
    for short, name in (("dt", DT), ("n_gram", N_GRAM), ("untrained", UNTRAINED)):
        for t in spec.temperatures:
            row = rows.loc[name, OWN, t]
            metrics[f"{short}_kl_t{t:g}"] = float(row.kl)
            metrics[f"{short}_likelihood_t{t:g}"] = float(row.likelihood)
        metrics[f"{short}_agreement"] = float(row.agreement)
        metrics[f"{short}_nll"] = float(row.nll)
    dt, gram = (rows.loc[n, OWN, first] for n in (DT, N_GRAM))
    metrics["states"] = float(dt.states)
    claims = [
        Claim(
            id="teacher_and_model_agree",
            text="teacher and model agree",
            criterion="top-1 agreement above the n-gram's, and less surprised by the demonstrated actions, "
            "on the same episodes: the intervals of both differences above 0",
            evidence=f"{dt.agreement:.2f} [{dt.agreement_low:.2f}, {dt.agreement_high:.2f}] "
            f"({dt.interval}), {_signed(found.agreement)} above the n-gram; {dt.nll:.2f} nats per action, "
            f"{_signed(found.surprise)} fewer than the n-gram's {gram.nll:.2f}",
            verdict=Verdict.judge(
                Relation.ABOVE.decides(e, 0.0) for e in (found.agreement, found.surprise)
            ),
        )
    ]
    if found.moved is not None:
        low, high = found.hotter[min(spec.targets)], found.hotter[max(spec.targets)]
        metrics |= {"hotter_low": low.value, "hotter_high": high.value, "moved": found.moved.value}
        claims.append(_hotter(spec, low, high, found.moved))
    return metrics, claims


def _hotter(spec: TeacherSpec, low: Estimate, high: Estimate, moved: Estimate) -> Claim:
    """Whether reward-to-go chooses the temperature: a sign change, which no small drift gives."""
    asked = [f"{t:g}" for t in (min(spec.targets), max(spec.targets))]
    hot, cold = (f"T={f(spec.temperatures):g}" for f in (max, min))
    return Claim(
        id="lower_reward_to_go_simulates_hotter_teacher",
        text="a lower reward-to-go simulates the hotter teacher",
        criterion=f"log-likelihood under {hot} minus under {cold} is above 0 asked for {asked[0]} and below "
        f"0 asked for {asked[1]}, on the same episodes, each beyond its interval",
        evidence=f"{_signed(low)} nats asked for {asked[0]}, {_signed(high)} asked for {asked[1]}, apart by "
        f"{_signed(moved)} ({moved.kind})",
        verdict=Verdict.judge(
            [
                Relation.ABOVE.decides(low, 0.0),
                Relation.BELOW.decides(high, 0.0),
                Relation.ABOVE.decides(moved, 0.0),
            ]
        ),
        about=About.REWARD_TO_GO,
    )


def _signed(e: Estimate) -> str:
    return f"{e.value:+.2f} [{e.low:+.2f}, {e.high:+.2f}]"
