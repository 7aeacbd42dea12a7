"""Features of a compiled model, whose circuit is known: what carries an edit's effect, by which edges."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from dtx.analysis.feature_effects.circuit import edges
from dtx.analysis.feature_effects.curves import DIMENSIONS, FEATURES, sets, single
from dtx.analysis.feature_effects.dictionary import Directions
from dtx.analysis.feature_effects.measure import ADD, FeatureEdit
from dtx.analysis.feature_effects.patches import Patches
from dtx.analysis.feature_effects.played import Episodes, identical
from dtx.analysis.feature_effects.sites import Site
from dtx.analysis.feature_effects.spec import OFF
from dtx.analysis.feature_effects.windows import apart
from dtx.dictionary.autoencoder import SparseAutoencoder
from tests.dt.planted_variants import planted
from tests.pairs.build import declared, made

NEURONS = "blocks.1.mlp.hook_post"
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    return made(declared("memory", dataset=None), tmp_path_factory.mktemp("pairs") / "p")


def neurons(which, hook=NEURONS) -> SparseAutoencoder:
    """A dictionary whose features are some of the eight deciding neurons."""
    rows = torch.eye(8)[list(which)]
    zero = torch.zeros(8)
    weights = {
        "W_enc": rows.T.contiguous(),
        "W_dec": rows,
        "b_dec": zero,
        "b_enc": zero[: len(rows)],
    }
    return SparseAutoencoder("standard", weights, hook)


def patches_of(network, pairs, sae) -> Patches:
    (batch,) = pairs.batches(network)
    return Patches(
        network, Site.of(sae.hook_name), batch, apart(network, batch, 0.01), Directions(sae), 64
    )


def test_the_deciding_neurons_as_features_carry_all_of_the_effect(pairs):
    _, network, _, _ = planted("plain")
    parts = single(patches_of(network, pairs, neurons(range(8))))
    expected = parts["part"].isin(["features", "both"]).astype(float)
    assert len(parts) == 80 and np.allclose(parts["rho"], expected, atol=TOLERANCE)
    # Half of the neurons: the error has the rest, and both together all.
    half = single(patches_of(network, pairs, neurons([0, 1, 2, 3]))).set_index("part")["rho"]
    assert np.allclose(half["features"].to_numpy() + half["error"].to_numpy(), 1, atol=TOLERANCE)
    assert half["error"].max() > 0.4 and np.allclose(half["both"], 1, atol=TOLERANCE)


def test_features_that_do_not_decide_carry_nothing(pairs):
    """Those of the last block's MLP, which does nothing."""
    _, network, _, _ = planted("plain")
    parts = single(patches_of(network, pairs, neurons(range(8), "blocks.2.mlp.hook_post")))
    assert (parts["rho"] == 0).all()


def test_the_circuit_of_the_compiled_model_is_found(pairs):
    """Who brings which variable to which neuron, by attribution and exactly; nothing else."""
    _, network, circuit, _ = planted("plain")
    table = edges(patches_of(network, pairs, neurons(range(8))), 8, 0.01)
    strong = table[table["attribution"].abs() > 1e-4]
    assert np.allclose(strong["exact"], strong["attribution"], atol=1e-4)
    writes = {"instruction_flip": "L1H0", "swap_targets": "embed", "rtg_zero": "L0 MLP"}
    into = strong[strong["receiver"] != "logits"]
    assert {(e, s) for e, s in zip(into["edit"], into["sender"], strict=True)} == set(
        writes.items()
    )
    by_edit = strong.groupby(["edit", "reward_to_go", strong["receiver"] == "logits"])[
        "exact"
    ].sum()
    assert np.allclose(by_edit, 1, atol=1e-4)  # as much comes in as goes out: all of it
    # With reward-to-go high or low only the neurons of that sign change when another variable is flipped.
    flips = into[into["edit"] == "instruction_flip"]
    for target, high in ((0.892, 1), (0.0, -1)):
        here = set(flips.loc[flips["reward_to_go"] == target, "receiver"])
        assert here == {f"F{n.neuron}" for n in circuit.neurons if n.high == high}


def test_sets_grow_from_nothing_to_everything(pairs):
    _, network, _, _ = planted("plain")
    table = sets(patches_of(network, pairs, neurons(range(8))), [0, 2, 8], 3, 0)
    ends = table.groupby("k")[["faithfulness", "remaining"]].agg(["min", "max"])
    assert np.allclose(ends.loc[0], [0, 0, 1, 1], atol=TOLERANCE)
    assert np.allclose(ends.loc[8], [1, 1, 0, 0], atol=TOLERANCE)
    own = table[table["k"] == 2].groupby("basis")["faithfulness"].mean()
    assert own[FEATURES] == own[DIMENSIONS]  # here the dimensions are the neurons


def test_turning_a_deciding_neuron_off_ends_the_episodes_that_it_decides(env):
    """And no other: those of high reward-to-go share the episodes among them."""
    _, network, circuit, _ = planted("plain")
    spec = SimpleNamespace(targets=(0.892,), episodes=6, seed=0)
    player = Episodes(spec, network, dataclasses.replace(env, max_steps=12))
    directions = Directions(neurons(range(8)))
    assert (
        identical(player.unedited, player.edited(NEURONS, directions, FeatureEdit(0, ADD, 0.0)))
        == 0
    )
    table = player.effects(NEURONS, directions, [FeatureEdit(i, OFF) for i in range(8)])
    flips = table.pivot(index="edit", columns="episode", values="flip").to_numpy()
    high = np.array([neuron.high == 1 for neuron in circuit.neurons])
    assert (flips[~high] == 0).all() and (flips[high].sum(0) == 1).all()
    assert (table["change"] <= 0).all() and ((table["change"] < 0) == (table["flip"] == 1)).all()
