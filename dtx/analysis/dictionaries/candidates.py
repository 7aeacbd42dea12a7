"""The dictionaries that are judged: trained ones, and every control of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from dtx.activations.stored import Activations, Part
from dtx.analysis.dictionaries.measure import Rows
from dtx.analysis.dictionaries.spec import (
    HOWS,
    IDENTITY,
    LARGEST,
    MEAN,
    PCA,
    RANDOM,
    UNTRAINED,
    DictionariesSpec,
)
from dtx.dictionary import controls
from dtx.dictionary.autoencoder import SparseAutoencoder
from dtx.dictionary.spec import How
from dtx.dictionary.trained import Dictionaries
from dtx.dt.edits import Depends, Edit
from dtx.dt.model import DecisionTransformerModel


@dataclass(frozen=True)
class Network:
    """A network, its stored activations, and the dictionaries of these."""

    model: DecisionTransformerModel
    stored: Activations
    dictionaries: Dictionaries


@dataclass(frozen=True)
class Candidate:
    """A dictionary that is judged.

    Attributes:
        kind: One of :data:`dtx.analysis.dictionaries.spec.KINDS`.
        name: Unlike that of all others of its kind.
        width: Features. sparsity: As it was set: k, or the penalty's weight.
        seed: Of the dictionary; of an untrained network's own, of the network.
    """

    kind: str
    name: str
    hook: str
    width: int
    sparsity: float
    seed: int
    sae: SparseAutoencoder

    @property
    def about(self) -> dict[str, Any]:
        """The first columns of tables."""
        names = ("kind", "name", "hook", "width", "sparsity", "seed")
        return {name: getattr(self, name) for name in names}


def of_dictionaries(
    dictionaries: Dictionaries, hook: str, how: set[How], network: int | None = None
) -> Iterator[Candidate]:
    """Stored dictionaries of a hook.

    Args:
        dictionaries: Of an artefact.
        hook: Of which activation.
        how: Ways of training that are wanted.
        network: The seed of the untrained network whose own they are; None: of the model's activations.
    """
    frame = dictionaries.frame
    for row in frame[frame["hook"] == hook].to_dict("records"):
        if (way := How(row["how"])) in how:
            kind = HOWS[way] if network is None else UNTRAINED
            seed = int(row["seed"]) if network is None else network
            name = str(row["name"]) if network is None else f"{row['name']} of {network}"
            size = (int(row["width"]), float(row["sparsity"]))
            yield Candidate(kind, name, hook, *size, seed, dictionaries[str(row["name"])])


def all_of(
    spec: DictionariesSpec, network: Network, held_back: Dictionaries, hook: str, split: str
) -> Iterator[Candidate]:
    """All that is judged of the model's activations of a hook: the mean and the identity come first.

    Args:
        spec: How many components the controls have, and their seed.
        network: The model, with its dictionaries.
        held_back: Dictionaries of the same activations of which a part stays random.
        hook: Of which activation. split: By what rows are held out.
    """
    d = network.stored.hooks[hook]
    held_out = Rows.of(network.stored, hook, split, Part.HELD_OUT)
    yield mean_of(held_out, hook)
    yield Candidate(IDENTITY, IDENTITY, hook, 2 * d, d, 0, controls.identity(d, hook=hook))
    trained = list(of_dictionaries(network.dictionaries, hook, {How.trained}))
    yield from trained
    yield from of_dictionaries(held_back, hook, set(How) - {How.trained})
    yield from _without_training(spec, network.stored, hook, split, max(c.width for c in trained))


def own_of(network: Network, hook: str, number: int, split: str) -> Iterator[Candidate]:
    """The dictionaries of an untrained network's own activations, its mean first."""
    yield mean_of(Rows.of(network.stored, hook, split, Part.HELD_OUT), hook)
    yield from of_dictionaries(network.dictionaries, hook, {How.trained}, number)


def mean_of(rows: Rows, hook: str) -> Candidate:
    """Mean ablation, by the mean of the very rows that are read: nothing is learnt of others."""
    sae = controls.mean(rows.x_rd, rows.count_r, hook=hook)
    return Candidate(MEAN, MEAN, hook, 0, 0, 0, sae)


def _without_training(
    spec: DictionariesSpec, stored: Activations, hook: str, split: str, width: int
) -> Iterator[Candidate]:
    d = stored.hooks[hook]
    rows = stored.rows(split, Part.TRAIN)
    x_rd, count_r = stored.array(hook)[rows], stored.columns["count"][rows]
    most = controls.pca(x_rd, count_r, min(max(spec.components), d), hook=hook)
    mean_d = most.weights["b_dec"]
    for k in sorted({min(k, d) for k in spec.components}):
        sae = controls.fewer_components(most, k)
        yield Candidate(PCA, f"{PCA} {k}", hook, k, k, 0, sae)
        sae = controls.largest_dimensions(k, d, mean_d, hook=hook)
        yield Candidate(LARGEST, f"{LARGEST} {k}", hook, d, k, 0, sae)
    for k in sorted({min(k, width) for k in spec.components}):
        sae = controls.random(d, width, k, spec.seed, mean_d, hook=hook)
        yield Candidate(RANDOM, f"{RANDOM} {k}", hook, width, k, 0, sae)


def at_mean(model: DecisionTransformerModel, hook: str, mean_d: torch.Tensor) -> Any:
    """A context in which an activation is its mean, set directly: what mean ablation is checked against."""

    def put(x: torch.Tensor, hook: Any) -> torch.Tensor:
        return mean_d.reshape(x.shape[2:]).expand_as(x)

    return model.hooks(fwd_hooks=[(hook, Edit(put, Depends.token))])
