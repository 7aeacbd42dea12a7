"""What a linear probe reads of steps left at state tokens, and what it could read without the model.

Steps left are linear in reward-to-go and time, which the inputs say: a probe that finds them shows nothing.
Whether no more than the shortest way's time is left (*time is up*) is not linear in them: a probe of the
stream that beats one of the inputs reads what the model computed, if it beats an untrained model's as well.

Letters: s states, f features, p points of the residual stream.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from dtx.analysis.countdown.naming import StepsNamed
from dtx.analysis.countdown.spec import TRAINED, CountdownSpec
from dtx.analysis.countdown.states import Windows
from dtx.dataset.episodes import Episodes, Outcome, Split
from dtx.dt.forward import blocks_of
from dtx.dt.incremental import CHUNK
from dtx.dt.model import DecisionTransformerModel
from dtx.statistics import ratio_estimate

STEPS_LEFT, TIME_IS_UP = "steps left", "time is up"
SHUFFLED = "shuffled"
INPUTS = {"reward-to-go": [0], "timestep": [1], "reward-to-go and timestep": [0, 1]}
"""Baselines: columns of the inputs that a linear probe gets."""
EMBEDDING = 0
"""The point before the first block."""


@dataclass(frozen=True)
class ProbedStates:
    """States with their steps left.

    Attributes:
        episode: (s,). inputs: (s, 2) reward-to-go and timestep. left: (s,). time_is_up: (s,) 0 or 1.
        train, test: (s,) bool, of other episodes and other observations at the last step.
        inner: (s,) bool: left out of the training states while the penalty is chosen.
        windows: Cuts the windows. step: (s,).
    """

    episode: np.ndarray
    step: np.ndarray
    inputs: np.ndarray
    left: np.ndarray
    time_is_up: np.ndarray
    train: np.ndarray
    test: np.ndarray
    inner: np.ndarray
    windows: Windows


def probed(
    spec: CountdownSpec,
    model: DecisionTransformerModel,
    named: StepsNamed,
    episodes: Episodes,
    target: np.ndarray | None,
) -> ProbedStates:
    """Random states of episodes, at most one of each past.

    Args:
        episodes: Demonstrations' successes, or the model's own play.
        target: (e,) what was asked for; None: the episodes' returns.
    """
    rng = np.random.default_rng(spec.seed)
    asked = np.asarray(episodes.returns if target is None else target, float)
    chosen = np.arange(len(asked))
    if target is None:
        training = np.asarray(episodes.split) == Split.TRAIN
        chosen = chosen[training & (np.asarray(episodes.outcome) == Outcome.SUCCESS)]
    length, start = np.asarray(episodes.length)[chosen], np.asarray(episodes.start)[chosen]
    # More than are wanted, for some pasts occur twice.
    step_of = np.concatenate([np.arange(n) for n in length]) if len(length) else np.zeros(0, int)
    episode_of = chosen.repeat(length)
    due = np.flatnonzero(named.steps(asked[episode_of]) - step_of > 0.5)  # there are steps left
    drawn = rng.permutation(due)[: 2 * spec.probed]
    episode, step = episode_of[drawn], step_of[drawn]
    row = start.repeat(length)[drawn] + step
    new = _first_of_each_past(episodes, episode, step, asked)[: spec.probed]
    episode, step, row = episode[new], step[new], row[new]
    left = named.steps(asked[episode]) - step
    observation = np.asarray(episodes.observation)[row]
    held = [_aside(rng, values, spec.held_out) for values in (episode, observation)]
    again = [_aside(rng, values, spec.held_out) for values in (episode, observation)]
    train = ~held[0] & ~held[1]
    return ProbedStates(
        episode=episode,
        step=step,
        inputs=np.stack([asked[episode], step], 1),
        left=left,
        time_is_up=(left < named.shortest + 0.5).astype(float),
        train=train,
        # Neither in nor out: a state of which only one of episode and observation is held out.
        test=held[0] & held[1],
        inner=again[0] | again[1],
        windows=Windows(model.cfg, episodes),
    )


def _aside(rng: np.random.Generator, values: np.ndarray, share: float) -> np.ndarray:
    """(s,) bool: a share of the distinct values is held out, one at least."""
    distinct = np.unique(values)
    return np.isin(values, rng.permutation(distinct)[: max(1, round(share * len(distinct)))])


def _first_of_each_past(
    episodes: Episodes, episode: np.ndarray, step: np.ndarray, asked: np.ndarray
) -> np.ndarray:
    start = np.asarray(episodes.start)
    known: set[tuple] = set()
    new = []
    for i, (e, t) in enumerate(zip(episode, step, strict=True)):
        rows = slice(start[e], start[e] + t + 1)
        seen = np.asarray(episodes.observation[rows]).tobytes()
        past = (round(asked[e], 6), seen, np.asarray(episodes.action[rows])[:t].tobytes())
        if past not in known:
            known.add(past)
            new.append(i)
    return np.array(new, int)


@torch.inference_mode()
def streams(model: DecisionTransformerModel, states: ProbedStates) -> np.ndarray:
    """The residual stream (p, s, d) at the states: before each block and after the last."""
    found = np.empty((model.cfg.n_layers + 1, len(states.step), model.cfg.d_model))
    each = states.windows.ending_at(states.episode, states.step, states.inputs[:, 0])
    for here, context in each:
        for part in torch.arange(len(here)).split(CHUNK):
            resid_knd = model.residual(context[part], 0)
            for point, block in enumerate((None, *blocks_of(model))):
                resid_knd = resid_knd if block is None else block(resid_knd)
                found[point, here[part.numpy()]] = resid_knd[:, -1].numpy()
    return found


def ridge(
    x_sf: np.ndarray, y_s: np.ndarray, states: ProbedStates, strengths: tuple[float, ...]
) -> np.ndarray:
    """Predictions (s,) of a linear probe with intercept, fitted to the training states.

    Args:
        strengths: Of the penalty, for features of unit variance, a training state. Which of them: what
            predicts a part of the training states best, of episodes and observations that the others lack.
    """
    inner, check = states.train & ~states.inner, states.train & states.inner
    errors = [0.0] * len(strengths)
    if len(strengths) > 1 and inner.sum() > 1 and check.any():
        found = _fits(x_sf, y_s, inner, strengths)
        errors = [float(((y_s - guess)[check] ** 2).sum()) for guess in found]
    return _fits(x_sf, y_s, states.train, (strengths[int(np.argmin(errors))],))[0]


def _fits(
    x_sf: np.ndarray, y_s: np.ndarray, train: np.ndarray, strengths: tuple[float, ...]
) -> list[np.ndarray]:
    mean, deviation = x_sf[train].mean(0), x_sf[train].std(0)
    x_sf = (x_sf - mean) / np.where(deviation > 1e-9, deviation, 1.0)
    x, offset = x_sf[train], y_s[train].mean()
    values, vectors = np.linalg.eigh(x.T @ x)
    along = vectors.T @ (x.T @ (y_s[train] - offset))
    weights = [vectors @ (along / (values.clip(0) + s * len(x))) for s in strengths]
    return [x_sf @ weight + offset for weight in weights]


def read(
    spec: CountdownSpec,
    models: dict[str, DecisionTransformerModel],
    source: str,
    states: ProbedStates,
) -> pd.DataFrame:
    """Probe every point of every model.

    Returns:
        One row a model, point and what is read: r2 (on held-out states), margin (r2 above the best of what
        needs no training: the inputs, the same point of each untrained model, shuffled labels) with its
        interval, best (which of these that is), states.
    """
    rng = np.random.default_rng(spec.seed)
    stream = {name: streams(model, states) for name, model in models.items()}
    truths = {STEPS_LEFT: states.left, TIME_IS_UP: states.time_is_up}
    rows = []
    for what, y_s in truths.items():
        if not _varies(y_s, states):
            continue
        inputs = {
            name: ridge(states.inputs[:, columns], y_s, states, spec.ridge)
            for name, columns in INPUTS.items()
        }
        mixed = y_s.copy()
        mixed[states.train] = rng.permutation(y_s[states.train])
        for point in range(len(stream[TRAINED])):
            found = {name: ridge(x[point], y_s, states, spec.ridge) for name, x in stream.items()}
            shuffled = ridge(stream[TRAINED][point], mixed, states, spec.ridge)
            others = {name: y for name, y in found.items() if name != TRAINED}
            baselines = {**inputs, SHUFFLED: shuffled, **others}
            rows.append({
                "source": source, "what": what, "point": point,
                **_margin(states, y_s, found[TRAINED], baselines), "states": int(states.test.sum()),
                **{f"r2 {name}": _r2(y_s, y, states.test) for name, y in baselines.items()},
            })  # fmt: skip
    return pd.DataFrame(rows)


def _margin(
    states: ProbedStates, y_s: np.ndarray, own: np.ndarray, baselines: dict[str, np.ndarray]
) -> dict:
    """Against the baseline that leaves the smallest margin, by its interval's lower end."""
    test = states.test
    names, number = np.unique(states.episode[test], return_inverse=True)
    spread = (y_s[test] - y_s[test].mean()) ** 2
    below = np.bincount(number, spread, len(names))
    found = {}
    for name, other in baselines.items():
        gained = (other[test] - y_s[test]) ** 2 - (own[test] - y_s[test]) ** 2
        found[name] = ratio_estimate(np.bincount(number, gained, len(names)), below)
    best = min(found, key=lambda name: np.nan_to_num(found[name].low, nan=-np.inf))
    margin = found[best]
    return {
        "r2": _r2(y_s, own, test), "margin": margin.value, **margin.columns(), "best": best
    }  # fmt: skip


def _r2(y_s: np.ndarray, found: np.ndarray, test: np.ndarray) -> float:
    y = y_s[test]
    return float(1 - ((y - found[test]) ** 2).sum() / ((y - y.mean()) ** 2).sum())


def _varies(y_s: np.ndarray, states: ProbedStates) -> bool:
    """Whether there is something to fit and to predict."""
    return all(len(np.unique(y_s[part])) > 1 for part in (states.train, states.test))
