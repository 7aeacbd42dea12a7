"""Compare the policies of the teacher, the model and the controls at every step of held-out episodes.

Letters: s states (steps of all episodes, one after the other), a actions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from dtx.agent.agent import Agent
from dtx.analysis.core.result import About, Check, Claim, Result, Verdict
from dtx.analysis.teacher.policies import (
    HeldOutEpisodes,
    held_out,
    log_softmax,
    model_policy,
    n_gram,
    teacher_logits,
)
from dtx.analysis.teacher.spec import DT, N_GRAM, OWN, UNTRAINED, TeacherSpec
from dtx.dataset.episodes import Episodes
from dtx.dt.load import untrained_like
from dtx.dt.model import DecisionTransformerModel
from dtx.progress import progress
from dtx.training.threads import one_thread

TOLERANCE = 1e-9


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
        over states with 95% intervals over episodes of kl = KL(teacher || model) in nats, agreement
        (top-1), likelihood (expected log-probability of the model's action under the teacher, nats), nll
        (of the demonstrated actions under the model, nats); episodes, states, distinct_states.
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
    metrics, claims = _judge(spec, comparison)
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
        claims=claims,
        tables={"comparison": comparison},
        distinct_inputs=int(own.distinct_states[own.temperature == min(spec.temperatures)].iloc[0]),
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
        fresh = untrained_like(model, spec.seed)
        policies.append(
            ComparedPolicy(UNTRAINED, OWN, model_policy(fresh, replay, replay.reward_to_go))
        )
        bar.advance(1, UNTRAINED)
    at_t = {t: log_softmax(logits_sa / t) for t in spec.temperatures}
    return policies + [ComparedPolicy(f"teacher, T={t:g}", OWN, p) for t, p in at_t.items()], at_t


def divergence(log_p: np.ndarray, log_q: np.ndarray) -> np.ndarray:
    """KL(p || q) in nats over the last axis, of log-probabilities."""
    return (np.exp(log_p) * (log_p - log_q)).sum(-1)


def by_episode(
    values: np.ndarray, length: np.ndarray, resamples: int, seed: int
) -> tuple[float, float, float]:
    """Mean of the states' values with its 95% interval when whole episodes are drawn again."""
    edges = np.cumsum(length) - length
    sums = np.add.reduceat(values, edges)
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(length), np.full(len(length), 1 / len(length)), size=resamples)
    means = (drawn @ sums) / (drawn @ length)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(values.mean()), float(low), float(high)


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
        "agreement": (teacher.argmax(1) == policy.argmax(1)).astype(float),
        "likelihood": (np.exp(policy) * teacher).sum(1),
        "nll": -policy[np.arange(len(policy)), replay.action[replay.real]],
    }
    row: dict[str, str | float] = {
        "model": of.model,
        "asked_for": of.asked_for,
        "temperature": temperature,
    }
    for key, value in values.items():
        mean, low, high = by_episode(value, replay.length, spec.resamples, spec.seed)
        row |= {key: mean, f"{key}_low": low, f"{key}_high": high}
    both = np.concatenate([policy, teacher], 1).round(6)
    return row | {
        "episodes": len(replay.length),
        "states": len(policy),
        "distinct_states": len(np.unique(both, axis=0)),
    }


def _judge(spec: TeacherSpec, table: pd.DataFrame) -> tuple[dict[str, float | None], list[Claim]]:
    first = min(spec.temperatures)
    hot = max(spec.temperatures)
    rows = table.set_index(["model", "asked_for", "temperature"])
    metrics: dict[str, float | None] = {}
    for short, name in (("dt", DT), ("n_gram", N_GRAM), ("untrained", UNTRAINED)):
        for t in spec.temperatures:
            row = rows.loc[name, OWN, t]
            metrics[f"{short}_kl_t{t:g}"] = float(row.kl)
            metrics[f"{short}_likelihood_t{t:g}"] = float(row.likelihood)
        metrics[f"{short}_agreement"] = float(row.agreement)
        metrics[f"{short}_nll"] = float(row.nll)
    dt, gram, fresh = (rows.loc[n, OWN, first] for n in (DT, N_GRAM, UNTRAINED))
    metrics["states"] = float(dt.states)
    ahead = bool(dt.agreement_low > max(gram.agreement_high, fresh.agreement_high))
    claims = [
        Claim(
            id="teacher_and_model_agree",
            text="teacher and model agree",
            criterion="top-1 agreement above the n-gram's and the untrained model's, intervals apart; "
            "and less surprised by the demonstrated actions",
            evidence=f"{dt.agreement:.2f} [{dt.agreement_low:.2f}, {dt.agreement_high:.2f}], n-gram "
            f"{gram.agreement:.2f}, untrained {fresh.agreement:.2f}; {dt.nll:.2f} nats an action, n-gram "
            f"{gram.nll:.2f}",
            verdict=Verdict.of(ahead and bool(dt.nll_high < gram.nll_low), partly=ahead),
        )
    ]
    if len(spec.temperatures) > 1 and len(spec.targets) > 1:
        asked = [f"{t:g}" for t in (min(spec.targets), max(spec.targets))]
        lead = [
            float(rows.loc[DT, a, hot].likelihood - rows.loc[DT, a, first].likelihood)
            for a in asked
        ]
        metrics |= {"hotter_low": lead[0], "hotter_high": lead[1]}
        claims.append(
            Claim(
                id="lower_reward_to_go_simulates_hotter_teacher",
                text="a lower reward-to-go simulates the hotter teacher",
                criterion=f"log-likelihood under T={hot:g} minus under T={first:g} is larger asked for "
                f"{asked[0]} than for {asked[1]}, and changes its sign",
                evidence=f"{lead[0]:+.2f} asked for {asked[0]}, {lead[1]:+.2f} asked for {asked[1]}",
                verdict=Verdict.of(lead[0] > 0 > lead[1], partly=lead[0] > lead[1]),
                about=About.REWARD_TO_GO,
            )
        )
    return metrics, claims
