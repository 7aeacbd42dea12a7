"""Policies of the teacher, the model and the controls at every step of held-out episodes.

Letters: e episodes, t steps, s states (steps of all episodes, one after the other), a actions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

from dtx.analysis.core.claims import Claim, verdict
from dtx.analysis.teacher import Teacher
from dtx.dataset.episodes import Episodes, Split
from dtx.dt.model import DecisionTransformerModel
from dtx.dt.provider import load_at, untrained_like
from dtx.dt.rollout import CHUNK, History
from dtx.progress import progress
from dtx.training.threads import one_thread

DT, N_GRAM, UNTRAINED = "decision transformer", "n-gram", "untrained"
OWN = "own"
"""The reward-to-go that the demonstration has, as in training."""
TOLERANCE = 1e-9


@dataclass
class Results:
    """What was found.

    Attributes:
        comparison: One row a model, reward-to-go asked for and temperature of the teacher: means over
            states with 95% intervals over episodes of kl = KL(teacher || model) in nats, agreement (top-1),
            likelihood (expected log-probability of the model's action under the teacher, nats), nll (of
            the demonstrated actions under the model, nats); episodes, states, distinct_states.
        headline: ``teacher/*`` numbers. claims: With verdicts. failed: Identities that did not hold.
    """

    comparison: pd.DataFrame
    headline: dict[str, float | None]
    claims: list[Claim]
    failed: list[str]


@dataclass(frozen=True)
class Replay:
    """Held-out episodes as a rectangle.

    Attributes:
        observation: (e, t) row of ``observations``. action: (e, t). reward_to_go: (e, t).
        length: (e,). observations: (u, 7, 7, 3).
    """

    observation: np.ndarray
    action: np.ndarray
    reward_to_go: np.ndarray
    length: np.ndarray
    observations: np.ndarray

    @property
    def real(self) -> np.ndarray:
        """(e, t) bool: the step happened."""
        return np.arange(self.observation.shape[1]) < self.length[:, None]


def measure(stage: Teacher) -> Results:
    """Replay and compare."""
    episodes: Episodes = stage.dataset.load()
    agent = stage.agent.load()
    model = load_at(stage.dt, stage.checkpoint)
    replay = held_out(episodes, stage.episodes, stage.seed)
    asked = [(OWN, replay.reward_to_go)]
    asked += [(f"{t:g}", np.full_like(replay.reward_to_go, t)) for t in stage.targets]
    with one_thread(), progress("teacher", len(asked) + 2, "policies") as bar:
        logits_sa = teacher_logits(agent, replay)
        policies = [(N_GRAM, OWN, n_gram(episodes, replay, stage.n_gram, logits_sa.shape[1]))]
        bar.advance(1, N_GRAM)
        for name, reward_to_go in asked:
            policies.append((DT, name, model_policy(model, replay, reward_to_go)))
            bar.advance(1, f"reward-to-go {name}")
        fresh = untrained_like(model, stage.seed)
        policies.append((UNTRAINED, OWN, model_policy(fresh, replay, replay.reward_to_go)))
        bar.advance(1, UNTRAINED)
    at_t = {t: log_softmax(logits_sa / t) for t in stage.temperatures}
    policies += [(f"teacher, T={t:g}", OWN, p) for t, p in at_t.items()]
    own = max(float(np.abs(divergence(p, p)).max()) for _, _, p in policies)
    rows = [
        _row(stage, replay, name, asked_for, temperature, policy, teacher)
        for name, asked_for, policy in policies
        for temperature, teacher in at_t.items()
    ]
    comparison = pd.DataFrame(rows)
    headline, claims = _judge(stage, comparison)
    headline["teacher/identity_error"] = own
    failed = [] if own < TOLERANCE else [f"a model differs from itself by {own:.1g} nats"]
    return Results(comparison, headline, claims, failed)


def held_out(episodes: Episodes, count: int, seed: int) -> Replay:
    """Validation episodes, or training ones where none was held out."""
    chosen = np.flatnonzero(episodes.split == Split.VALIDATION)
    if not len(chosen):
        chosen = np.arange(len(episodes.start))
    chosen = np.sort(np.random.default_rng(seed).permutation(chosen)[:count])
    start, length = np.asarray(episodes.start)[chosen], np.asarray(episodes.length)[chosen]
    step = np.minimum(np.arange(length.max()), length[:, None] - 1)
    row = start[:, None] + step
    return Replay(
        observation=episodes.observation[row],
        action=episodes.action[row].astype(np.int64),
        reward_to_go=episodes.reward_to_go[row],
        length=length,
        observations=np.asarray(episodes.observations),
    )


@torch.inference_mode()
def teacher_logits(agent: Any, replay: Replay) -> np.ndarray:
    """The teacher's logits (s, a) float64 along the episodes, with its own memory of them."""
    memory = agent.initial_memory(len(replay.length))
    parts = []
    for step in range(replay.observation.shape[1]):
        seen = torch.from_numpy(replay.observations[replay.observation[:, step]])
        logits, _, memory = agent.step(seen, memory)
        parts.append(logits.double().numpy())
    return np.stack(parts, 1)[replay.real]


@torch.inference_mode()
def model_policy(
    model: DecisionTransformerModel, replay: Replay, reward_to_go: np.ndarray
) -> np.ndarray:
    """Log-probabilities (s, a) float64 of the model acting along the episodes; equal contexts once."""
    e, steps = replay.observation.shape
    history = History(model, e, steps)
    found = np.zeros((e, steps, model.cfg.n_actions))
    for step in range(steps):
        history.see(replay.observations[replay.observation[:, step]], reward_to_go[:, step])
        playing = np.flatnonzero(replay.length > step)
        first, index = history.distinct_contexts(playing)
        parts = [
            model.last_logits(history.context(playing[first[begin : begin + CHUNK]]))
            for begin in range(0, len(first), CHUNK)
        ]
        found[playing, step] = torch.cat(parts).double().numpy()[index]
        history.act(replay.action[:, step])
    return log_softmax(found[replay.real])


def n_gram(episodes: Episodes, replay: Replay, order: int, n_actions: int) -> np.ndarray:
    """Log-probabilities (s, a) of the next action from the ``order`` before it, without observations.

    Counts of the training episodes, each order smoothed towards the one below as by one observation of
    it, down to the uniform distribution (Jelinek-Mercer interpolation with count-dependent weights).
    """
    training = np.asarray(episodes.split) == Split.TRAIN
    start, length = np.asarray(episodes.start)[training], np.asarray(episodes.length)[training]
    step = np.minimum(np.arange(length.max()), length[:, None] - 1)
    seen = np.asarray(episodes.action)[start[:, None] + step].astype(np.int64)
    real = np.arange(length.max()) < length[:, None]
    chance = np.full((int(replay.length.sum()), n_actions), 1 / n_actions)
    for used in range(order + 1):
        context, wanted = (_before(a, used, n_actions) for a in (seen, replay.action))
        counts = np.zeros(((n_actions + 1) ** used, n_actions))
        np.add.at(counts, (context[real], seen[real]), 1)
        mine = counts[wanted[replay.real]]
        chance = (mine + chance) / (mine.sum(1, keepdims=True) + 1)
    return np.log(chance)


def _before(action: np.ndarray, used: int, n_actions: int) -> np.ndarray:
    """(e, t) number of the ``used`` actions before each step; before the start stands ``n_actions``."""
    code = np.zeros_like(action)
    for back in range(1, used + 1):
        earlier = np.full_like(action, n_actions)
        earlier[:, back:] = action[:, :-back] if back < action.shape[1] else earlier[:, back:]
        code = code * (n_actions + 1) + earlier
    return code


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Over the last axis."""
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def divergence(log_p: np.ndarray, log_q: np.ndarray) -> np.ndarray:
    """KL(p || q) in nats over the last axis, of log-probabilities."""
    return (np.exp(log_p) * (log_p - log_q)).sum(-1)


def by_episode(values: np.ndarray, length: np.ndarray, resamples: int, seed: int):
    """Mean of the states' values with its 95% interval when whole episodes are drawn again."""
    edges = np.cumsum(length) - length
    sums = np.add.reduceat(values, edges)
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(length), np.full(len(length), 1 / len(length)), size=resamples)
    means = (drawn @ sums) / (drawn @ length)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(values.mean()), float(low), float(high)


def _row(stage, replay: Replay, name, asked_for, temperature, policy, teacher) -> dict[str, Any]:
    values = {
        "kl": divergence(teacher, policy),
        "agreement": (teacher.argmax(1) == policy.argmax(1)).astype(float),
        "likelihood": (np.exp(policy) * teacher).sum(1),
        "nll": -policy[np.arange(len(policy)), replay.action[replay.real]],
    }
    row: dict[str, Any] = {"model": name, "asked_for": asked_for, "temperature": temperature}
    for key, value in values.items():
        mean, low, high = by_episode(value, replay.length, stage.resamples, stage.seed)
        row |= {key: mean, f"{key}_low": low, f"{key}_high": high}
    both = np.concatenate([policy, teacher], 1).round(6)
    return row | {
        "episodes": len(replay.length),
        "states": len(policy),
        "distinct_states": len(np.unique(both, axis=0)),
    }


def _judge(stage: Teacher, table: pd.DataFrame) -> tuple[dict[str, float | None], list[Claim]]:
    first = min(stage.temperatures)
    hot = max(stage.temperatures)
    rows = table.set_index(["model", "asked_for", "temperature"])
    headline: dict[str, float | None] = {}
    for short, name in (("dt", DT), ("n_gram", N_GRAM), ("untrained", UNTRAINED)):
        for t in stage.temperatures:
            row = rows.loc[name, OWN, t]
            headline[f"teacher/{short}_kl_t{t:g}"] = float(row.kl)
            headline[f"teacher/{short}_likelihood_t{t:g}"] = float(row.likelihood)
        headline[f"teacher/{short}_agreement"] = float(row.agreement)
        headline[f"teacher/{short}_nll"] = float(row.nll)
    mine, gram, cold = (rows.loc[n, OWN, first] for n in (DT, N_GRAM, UNTRAINED))
    headline |= {
        "teacher/states": float(mine.states),
        "teacher/distinct_inputs": float(mine.distinct_states),
    }
    ahead = mine.agreement_low > max(gram.agreement_high, cold.agreement_high)
    claims = [
        Claim(
            claim="teacher and model agree",
            wanted="top-1 agreement above the n-gram's and the untrained model's, intervals apart; and less "
            "surprised by the demonstrated actions",
            found=f"{mine.agreement:.2f} [{mine.agreement_low:.2f}, {mine.agreement_high:.2f}], n-gram "
            f"{gram.agreement:.2f}, untrained {cold.agreement:.2f}; {mine.nll:.2f} nats an action, n-gram "
            f"{gram.nll:.2f}",
            verdict=verdict(ahead and mine.nll_high < gram.nll_low, partly=bool(ahead)),
        )
    ]
    if len(stage.temperatures) > 1 and len(stage.targets) > 1:
        asked = [f"{t:g}" for t in (min(stage.targets), max(stage.targets))]
        lead = [rows.loc[DT, a, hot].likelihood - rows.loc[DT, a, first].likelihood for a in asked]
        headline |= {"teacher/hotter_low": float(lead[0]), "teacher/hotter_high": float(lead[1])}
        claims.append(
            Claim(
                claim="a lower reward-to-go simulates the hotter teacher",
                wanted=f"log-likelihood under T={hot:g} minus under T={first:g} is larger asked for "
                f"{asked[0]} than for {asked[1]}, and changes its sign",
                found=f"{lead[0]:+.2f} asked for {asked[0]}, {lead[1]:+.2f} asked for {asked[1]}",
                verdict=verdict(lead[0] > 0 > lead[1], partly=bool(lead[0] > lead[1])),
            )
        )
    return headline, claims
