"""Activations of neurons over distinct states, and what they decode.

Letters: s state, l layer, f neuron, a action.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from dtx.analysis.congruence.compute import congruence, identity_errors
from dtx.analysis.core.result import largest
from dtx.analysis.neurons import NAME, Neurons
from dtx.analysis.neurons.states import States, states_of
from dtx.dataset.episodes import Episodes
from dtx.dt.load import load_at, untrained_like
from dtx.dt.model import DecisionTransformerModel
from dtx.dt.processing import EXACT, processed
from dtx.errors import UserError
from dtx.statistics import bootstrap
from dtx.training.threads import one_thread

TRAINED, UNTRAINED, RANDOM = "trained", "untrained", "random"


@dataclass
class Results:
    """Tables and numbers of the analysis.

    Attributes:
        neurons: One row a model and neuron: model, name, layer, neuron, rank, score (|congruence| times
            spread), mean, spread, fact (the one that decodes it best), selectivity (share of its variance
            between that fact's values, adjusted for their number), peak (the value at which it is most
            active), and congruence with each action (folded weights).
        facts: One row a model, neuron, fact and value: mean with interval, states.
        shown: One row a drawn state: name, set (trained, random, untrained), place, state, activation, and
            the state's columns.
        headline: ``neurons/*`` scalars.
        activations: By model, (s, neurons) in the order of ``names``.
        states: The states. episodes: They are from.
    """

    neurons: pd.DataFrame
    facts: pd.DataFrame
    shown: pd.DataFrame
    headline: dict[str, float | None]
    activations: dict[str, np.ndarray]
    names: list[str]
    actions: list[str]
    states: States
    episodes: Episodes


def measure(stage: Neurons) -> Results:
    """Choose neurons, describe them and their untrained twins, check what is shown."""
    from dtx.env.actions import Action

    with one_thread():
        model = load_at(stage.dt, stage.checkpoint, stage.env)
        layers = _layers(stage, model)
        episodes: Episodes = stage.dataset.load()
        states = states_of(episodes, model.cfg, stage.env, stage.states, stage.high, stage.seed)
        if len(states.frame) < 2 * stage.shown:
            raise UserError(
                f"dataset: {len(states.frame)} distinct states are too few to show "
                f"{stage.shown} and as many random ones; record more episodes"
            )
        models = {TRAINED: model, UNTRAINED: untrained_like(model, stage.untrained)}
        value_slf = {name: states.activations(m, layers) for name, m in models.items()}
        weight_lfa = {name: _congruence(m)[layers] for name, m in models.items()}
        score_lf = np.abs(weight_lfa[TRAINED]).max(-1) * value_slf[TRAINED].std(0)
        chosen = _chosen(stage, layers, score_lf)
        names = [f"MLP{layers[i]}N{f}" for i, f in chosen]
        at = tuple(np.array(chosen).T)
        values = {name: value[:, *at] for name, value in value_slf.items()}
        actions = [action.value for action in Action][: model.cfg.n_actions]
        neurons, facts = [], []
        for name, value in values.items():
            own = {"model": name, "name": names, "layer": np.array(layers)[at[0]], "neuron": at[1]}
            table = pd.DataFrame(own)
            table["rank"] = np.arange(1, len(chosen) + 1)
            weight_a = weight_lfa[name][at]
            table["score"] = np.abs(weight_a).max(-1) * value.std(0)
            table["mean"], table["spread"] = value.mean(0), value.std(0)
            best = [selectivity(value[:, i], states) for i in range(len(chosen))]
            table[["fact", "selectivity", "peak"]] = pd.DataFrame(best, index=table.index)
            for i, action in enumerate(actions):
                table[action] = weight_a[:, i]
            neurons.append(table)
            facts.append(_means(states, names, value).assign(model=name))
        shown = _shown(stage, states, names, values)
        errors = [
            _recomputed(models[name], states, shown[shown["set"].isin(sets)])
            for name, sets in ((TRAINED, (TRAINED, RANDOM)), (UNTRAINED, (UNTRAINED,)))
        ]
        same = states.drawn.length == np.bincount(states.drawn.length).argmax()
        compared = states.context(np.flatnonzero(same)[:64])
        congruent = largest(identity_errors(model, compared).values())
    table = pd.concat(neurons, ignore_index=True)
    headline = _headline(stage, table, states)
    headline["neurons/recomputed_error"] = max(errors)
    headline["neurons/attribution_error"] = congruent
    headline["neurons/identity_error"] = max(*errors, congruent)
    fact_table = pd.concat(facts, ignore_index=True)
    return Results(table, fact_table, shown, headline, values, names, actions, states, episodes)


def _layers(stage: Neurons, model: DecisionTransformerModel) -> list[int]:
    count = model.cfg.n_layers
    named = [[int(x) for x in NAME.fullmatch(name).groups()] for name in stage.named]  # type: ignore[union-attr]
    for name, (layer, neuron) in zip(stage.named, named, strict=True):
        if layer >= count or neuron >= model.cfg.d_mlp:
            raise UserError(f"analysis.neurons.named: {stage.dt.label} has no neuron {name}")
    wanted = stage.layers if stage.layers is not None else tuple(range(count))
    if max(wanted) >= count:
        raise UserError(
            f"analysis.neurons.layers: {stage.dt.label} has layers 0 to {count - 1}, not {max(wanted)}"
        )
    return sorted({layer for layer, _ in named} if named else set(wanted))


def _chosen(stage: Neurons, layers: list[int], score_lf: np.ndarray) -> list[tuple[int, int]]:
    """(place of the layer in ``layers``, neuron): those named, or those with the largest score."""
    if stage.named:
        parts = [NAME.fullmatch(name).groups() for name in stage.named]  # type: ignore[union-attr]
        return [(layers.index(int(layer)), int(neuron)) for layer, neuron in parts]
    order = np.argsort(-score_lf, axis=None, kind="stable")[: stage.neurons]
    return [(int(i), int(f)) for i, f in zip(*np.unravel_index(order, score_lf.shape), strict=True)]


@torch.no_grad()
def _congruence(model: DecisionTransformerModel) -> np.ndarray:
    """(l, f, a) of folded weights."""
    return congruence(processed(model, EXACT, torch.float64)).numpy()


def selectivity(value: np.ndarray, states: States) -> tuple[str, float, str]:
    """The fact that decodes an activation (s,) best.

    Returns:
        Its name; the share of variance between its values, adjusted for their number (0 is chance); and the
        value at which the mean is farthest from the mean of all states.
    """
    best = ("none", 0.0, "nowhere")
    total, count = value.var() * len(value), len(value)
    if total <= 1e-12:
        return best
    for fact in states.facts:
        codes, words = pd.factorize(states.frame[fact])
        number = np.bincount(codes)
        mean = np.bincount(codes, value) / number
        within = total - (number * (mean - value.mean()) ** 2).sum()
        share = 1 - (within / max(count - len(words), 1)) / (total / (count - 1))
        if share > best[1] + 1e-9:
            farthest = int(np.abs(mean - value.mean()).argmax())
            best = (fact, float(share), str(words[farthest]))
    return best


def _means(states: States, names: list[str], value_si: np.ndarray) -> pd.DataFrame:
    """Mean activation by fact and value, with intervals over states."""
    rows = []
    for fact in states.facts:
        for word, index in states.frame.groupby(fact, sort=True).indices.items():
            for i, name in enumerate(names):
                mine = value_si[index, i].astype(float)
                # Thousands of means: the normal interval, which differs from the bootstrap's by little.
                half = 1.96 * mine.std(ddof=1) / len(mine) ** 0.5 if len(mine) > 1 else np.nan
                mean = mine.mean()
                rows.append((name, fact, word, mean, mean - half, mean + half, len(mine)))
    return pd.DataFrame(rows, columns=["name", "fact", "value", "mean", "low", "high", "states"])


def _shown(
    stage: Neurons, states: States, names: list[str], values: dict[str, np.ndarray]
) -> pd.DataFrame:
    """The states that are drawn: the strongest, random ones, the strongest of the untrained neuron."""
    rng = np.random.default_rng(stage.seed)
    tables = []
    for i, name in enumerate(names):
        sets = {}
        for model, value in values.items():
            sets[model] = (model, np.argsort(-value[:, i], kind="stable")[: stage.shown])
        rest = np.setdiff1d(np.arange(len(states.frame)), sets[TRAINED][1])
        sets[RANDOM] = (TRAINED, rng.choice(rest, stage.shown, replace=False))
        for what, (model, which) in sets.items():
            table = states.frame.iloc[which].reset_index(drop=True)
            table.insert(0, "activation", values[model][which, i])
            table.insert(0, "state", which)
            table.insert(0, "place", np.arange(1, len(which) + 1))
            table.insert(0, "set", what)
            table.insert(0, "name", name)
            tables.append(table)
    return pd.concat(tables, ignore_index=True)


@torch.inference_mode()
def _recomputed(model: DecisionTransformerModel, states: States, shown: pd.DataFrame) -> float:
    """Largest distance of shown activations from those of the model on each window alone."""
    worst = 0.0
    for state, mine in shown.groupby("state"):
        which = np.array([state])
        _, cache = model.run_with_cache(
            states.context(which), names_filter=lambda name: name.endswith("mlp.hook_post")
        )
        at = int(states.place(which)[0])
        for name, activation in zip(mine["name"], mine.activation, strict=True):
            layer, neuron = NAME.fullmatch(name).groups()  # type: ignore[union-attr]
            own = float(cache[f"blocks.{layer}.mlp.hook_post"][0, at, int(neuron)])
            worst = max(worst, abs(own - activation) / max(1.0, abs(own)))
    return worst


def _headline(stage: Neurons, table: pd.DataFrame, states: States) -> dict[str, float | None]:
    by = table.pivot(index="name", columns="model", values="selectivity")
    difference = (by[TRAINED] - by[UNTRAINED]).to_numpy()
    low, high = bootstrap(difference, stage.resamples, stage.seed)
    numbers: dict[str, float | None] = {
        "neurons/shown": float(len(by)),
        "neurons/distinct_inputs": float(len(states.frame)),
        "neurons/selectivity": float(by[TRAINED].mean()),
        "neurons/selectivity_untrained": float(by[UNTRAINED].mean()),
        "neurons/difference_low": low,
        "neurons/difference_high": high,
        "neurons/established": float(low > 0),
    }
    return numbers
