"""Activations of neurons over distinct states, and what they decode.

Letters: s state, l layer, f neuron, i chosen neuron, a action.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
import torch

from dtx.analysis.congruence.compute import TOLERANCE, congruence, identity_errors
from dtx.analysis.core.result import Check, Control, Relation, Result, largest
from dtx.analysis.core.untrained import TWINS, twins
from dtx.analysis.neurons.spec import RANDOM, TRAINED, UNTRAINED, NeuronsSpec, place_of
from dtx.analysis.neurons.states import States, states_of
from dtx.analysis.neurons.worlds import views_and_worlds
from dtx.dataset.episodes import Episodes
from dtx.dt.model import DecisionTransformerModel
from dtx.dt.names import neuron_name
from dtx.dt.processing import EXACT, processed
from dtx.dt.windows import observation_table
from dtx.env.actions import Action
from dtx.env.decision import Decision
from dtx.errors import UserError
from dtx.statistics import Estimate, enumerated, mean_columns, next_estimate
from dtx.training.threads import one_thread

FEW = 400
"""States on which further untrained models are looked at (2026-11-30): a share of variance among so many is
uncertain by less than untrained models differ, and five of them cost as much as one model."""
COMPARED = 64
"""Windows on which activations times congruence are compared with what the MLP adds."""


def compute(
    spec: NeuronsSpec,
    model: DecisionTransformerModel,
    episodes: Episodes,
    decision: Decision | None = None,
) -> Result:
    """Describe neurons, the same neurons of an untrained model, and what the same choice shows of several.

    Args:
        spec: Which neurons, states and controls.
        model: Any.
        episodes: Whose states are looked at.
        decision: Of the environment, for facts about layouts and pictures of the world.

    Returns:
        Table ``neurons``: one row a model and neuron: model, name, layer, neuron, rank, score (|congruence|
        times spread), mean, spread, fact (the one that decodes it best), selectivity (share of its variance
        between that fact's values, adjusted for their number), peak (the value at which it is most active),
        and congruence with each action (folded weights). ``facts``: one row a model, neuron, fact and value:
        mean, low, high, n (episodes: states of one are not independent), interval, states. ``states``: one
        row a state that is shown: name, set (trained, random, untrained), place, state, activation, the
        state's columns, and what it looks like: view, first_view, world (see
        :func:`~dtx.analysis.neurons.worlds.views_and_worlds`). Arrays ``views``, ``worlds``, and
        ``activations_trained``, ``activations_untrained`` (s, i) float32 in the order of the neurons.

    Raises:
        UserError: The model has no such neuron or layer, or the episodes have too few states.
    """
    with one_thread():
        layers = _layers(spec, model)
        states = states_of(episodes, model.cfg, decision, spec.states, spec.high, spec.seed)
        if len(states.frame) < 2 * spec.shown:
            raise UserError(
                f"dataset: {len(states.frame)} distinct states are too few to show "
                f"{spec.shown} and as many random ones; record more episodes"
            )
        seen = observation_table(episodes.observations)[:-1]
        fresh = list(twins(model, TWINS, spec.untrained, seen))
        models = {TRAINED: model, UNTRAINED: fresh[0]}
        value_slf = {name: states.activations(each, layers) for name, each in models.items()}
        weight_lfa = {name: _congruence(each)[layers] for name, each in models.items()}
        score_lf = np.abs(weight_lfa[TRAINED]).max(-1) * value_slf[TRAINED].std(0)
        chosen = _chosen(spec, layers, score_lf)
        names = [neuron_name(layers[i], f) for i, f in chosen]
        at = tuple(np.array(chosen).T)
        value_si = {name: value[:, *at] for name, value in value_slf.items()}
        weight_ia = {name: weight[at] for name, weight in weight_lfa.items()}
        shown = _shown(spec, states, names, value_si)
        chance = _chance(fresh, states, layers, len(chosen))
        checks = list(_checks(spec, models, states, shown))
    neurons = pd.concat(
        [_described(m, names, states, value_si[m], weight_ia[m]) for m in models], ignore_index=True
    )
    facts = _means(states, names, value_si)
    looks, pictures = views_and_worlds(states, shown.state.to_numpy(), episodes, decision)
    own = neurons.loc[neurons.model == TRAINED].selectivity
    selective = enumerated(float(own.mean()), len(own), of="neurons shown")
    metrics: dict[str, float | None] = {
        "shown": float(len(own)),
        "selectivity": selective.value,
        "selectivity_untrained": chance.value,
        "selectivity_untrained_high": chance.high,
    }
    return Result(
        finding=_finding(selective, chance, neurons, len(states.frame)),
        metrics=metrics,
        checks=checks,
        controls=[
            Control.of(
                "mean selectivity of the neurons shown, beside those that the same choice shows of one more "
                "untrained model",
                selective,
                Relation.ABOVE,
                chance,
            )
        ],
        tables={
            "neurons": neurons,
            "facts": facts,
            "states": pd.concat([shown, looks], axis=1),
        },
        arrays={**pictures, **{f"activations_{m}": value for m, value in value_si.items()}},
        distinct_inputs=len(states.frame),
    )


def _layers(spec: NeuronsSpec, model: DecisionTransformerModel) -> list[int]:
    for field, what in spec.misfits(model.cfg):
        raise UserError(f"analysis.neurons.{field}: {what}")
    named = [place_of(name) for name in spec.named]
    wanted = spec.layers if spec.layers is not None else tuple(range(model.cfg.n_layers))
    return sorted({layer for layer, _ in named} if named else set(wanted))


def _chosen(spec: NeuronsSpec, layers: list[int], score_lf: np.ndarray) -> list[tuple[int, int]]:
    """(place of the layer in ``layers``, neuron): those named, or those with the largest score."""
    if spec.named:
        return [(layers.index(layer), neuron) for layer, neuron in map(place_of, spec.named)]
    return _strongest(score_lf, spec.neurons)


def _strongest(score_lf: np.ndarray, count: int) -> list[tuple[int, int]]:
    order = np.argsort(-score_lf, axis=None, kind="stable")[:count]
    return [(int(i), int(f)) for i, f in zip(*np.unravel_index(order, score_lf.shape), strict=True)]


def _chance(
    fresh: Sequence[DecisionTransformerModel],
    states: States,
    layers: list[int],
    count: int,
) -> Estimate:
    """Mean selectivity of as many neurons of one more untrained model, chosen as the model's are."""
    few, selective = states.first(FEW), []
    for twin in fresh:
        value_slf = few.activations(twin, layers)
        score_lf = np.abs(_congruence(twin)[layers]).max(-1) * value_slf.std(0)
        values = [value_slf[:, i, f] for i, f in _strongest(score_lf, count)]
        selective.append(np.mean([selectivity(value_s, few)[1] for value_s in values]))
    return next_estimate(selective)


@torch.no_grad()
def _congruence(model: DecisionTransformerModel) -> np.ndarray:
    """(l, f, a) of folded weights."""
    return congruence(processed(model, EXACT, torch.float64)).numpy()


def _described(
    model: str, names: list[str], states: States, value_si: np.ndarray, weight_ia: np.ndarray
) -> pd.DataFrame:
    """Rows of the table ``neurons`` of one model."""
    layer, neuron = np.array([place_of(name) for name in names]).T
    table = pd.DataFrame({"model": model, "name": names, "layer": layer, "neuron": neuron})
    table["rank"] = np.arange(1, len(names) + 1)
    table["score"] = np.abs(weight_ia).max(-1) * value_si.std(0)
    table["mean"], table["spread"] = value_si.mean(0), value_si.std(0)
    best = [selectivity(value_s, states) for value_s in value_si.T]
    table[["fact", "selectivity", "peak"]] = pd.DataFrame(best, index=table.index)
    for action, weight_i in zip(Action, weight_ia.T, strict=False):
        table[action.value] = weight_i
    return table


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


def _means(states: States, names: list[str], values: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Mean activation by model, fact and value, with intervals over episodes."""
    tables = []
    value_sx = np.concatenate([value_si.astype(float) for value_si in values.values()], 1)
    columns = {
        "model": np.repeat(list(values), len(names)),
        "name": np.tile(names, len(values)),
    }
    episode = states.frame.episode.to_numpy()
    for fact in states.facts:
        for word, index in states.frame.groupby(fact, sort=True).indices.items():
            found = mean_columns(value_sx[index], clusters=episode[index])
            of = {"fact": fact, "value": word, "mean": found.value, "states": len(index)}
            tables.append(pd.DataFrame({**columns, **of, **found.columns()}))
    return pd.concat(tables, ignore_index=True)


def _shown(
    spec: NeuronsSpec, states: States, names: list[str], values: Mapping[str, np.ndarray]
) -> pd.DataFrame:
    """The states that are drawn: the strongest, random ones, the strongest of the untrained neuron."""
    rng = np.random.default_rng(spec.seed)
    tables = []
    for i, name in enumerate(names):
        sets = {}
        for model, value in values.items():
            sets[model] = (model, np.argsort(-value[:, i], kind="stable")[: spec.shown])
        rest = np.setdiff1d(np.arange(len(states.frame)), sets[TRAINED][1])
        sets[RANDOM] = (TRAINED, rng.choice(rest, spec.shown, replace=False))
        for what, (model, which) in sets.items():
            table = states.frame.iloc[which].reset_index(drop=True)
            table.insert(0, "activation", values[model][which, i])
            table.insert(0, "state", which)
            table.insert(0, "place", np.arange(1, len(which) + 1))
            table.insert(0, "set", what)
            table.insert(0, "name", name)
            tables.append(table)
    return pd.concat(tables, ignore_index=True)


def _checks(
    spec: NeuronsSpec,
    models: Mapping[str, DecisionTransformerModel],
    states: States,
    shown: pd.DataFrame,
) -> Iterator[Check]:
    sets = {TRAINED: (TRAINED, RANDOM), UNTRAINED: (UNTRAINED,)}
    errors = [
        _recomputed(model, states, shown[shown["set"].isin(sets[name])])
        for name, model in models.items()
    ]
    yield Check(
        name="each activation that is shown is the model's on that window alone",
        error=largest(errors),
        tolerance=spec.tolerance,
    )
    same = states.drawn.length == np.bincount(states.drawn.length).argmax()
    compared = states.context(np.flatnonzero(same)[:COMPARED])
    for weights, error in identity_errors(models[TRAINED], compared).items():
        name = (
            f"activations times congruence are what the MLP adds to the logits, {weights} weights"
        )
        yield Check(name=name, error=error, tolerance=TOLERANCE)


@torch.inference_mode()
def _recomputed(model: DecisionTransformerModel, states: States, shown: pd.DataFrame) -> float:
    """Largest distance of shown activations from those of the model on each window alone."""
    errors = []
    for state, rows in shown.groupby("state"):
        which = np.array([state])
        _, cache = model.run_with_cache(
            states.context(which), names_filter=lambda name: name.endswith("mlp.hook_post")
        )
        at = int(states.place(which)[0])
        for name, activation in zip(rows["name"], rows["activation"], strict=True):
            layer, neuron = place_of(name)
            own = float(cache[f"blocks.{layer}.mlp.hook_post"][0, at, neuron])
            errors.append(abs(own - activation) / max(1.0, abs(own)))
    return largest(errors)


def _finding(selective: Estimate, chance: Estimate, neurons: pd.DataFrame, states: int) -> str:
    first = neurons.loc[neurons.model == TRAINED].sort_values("rank").iloc[0]
    return (
        f"selectivity {selective.value:.2f} ({selective.kind}), one more untrained model [{chance.low:.2f}, "
        f"{chance.high:.2f}], in {states} distinct states; {first['name']}: {first.fact} "
        f"{first.selectivity:.2f}, most at {first.peak}"
    )
