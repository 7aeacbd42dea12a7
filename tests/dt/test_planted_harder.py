"""Planted models whose circuit is harder to see do what their record says, edge by edge."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from dtx.analysis.core import truth
from dtx.analysis.core.truth import TOGETHER, Known, name_of
from dtx.config.build import ConfigError
from dtx.config.compose import build_group
from dtx.dt import paths
from dtx.dt.circuit import Circuit
from dtx.dt.rollout import decision_contexts
from dtx.env.memory import LEFT, RIGHT
from tests.dt.patching import FLIPS, difference, pairs
from tests.dt.planted_variants import planted

EDGES = ("negative", "three_relays_at_once", "redundant", "hardest", "linear_mean", "relay")


@pytest.mark.parametrize(
    "variant", [pytest.param(v, marks=() if v in EDGES[:3] else pytest.mark.slow) for v in EDGES]
)
@torch.inference_mode()
def test_each_edge_restores_what_the_circuit_says(variant):
    stage, model, circuit, _ = planted(variant)
    known = Known(circuit, 5)
    edits = {flip: edit for edit, flip in truth.FLIPS.items()}
    recorded = {(name_of(e.sender), name_of(e.receiver), e.input) for e in circuit.edges}
    held = 0
    for flip in FLIPS:
        clean, corrupt = pairs(model, stage.env, flip)
        _, cache = model.run_with_cache(clean, names_filter=paths.output_hooks(model.cfg))
        source = paths.outputs(model, cache)
        one, two = difference(model, clean), difference(model, corrupt)

        def rho(edge, at, source=source, corrupt=corrupt, one=one, two=two):
            mask = torch.zeros(corrupt.shape, dtype=torch.bool)
            mask[:, at] = True
            logits = paths.patched(model, corrupt, source, [(edge, mask)])
            found = ((logits[:, LEFT] - logits[:, RIGHT] - two) / (one - two)).numpy()
            assert np.ptp(found) < 20 * circuit.tolerance  # the same in every pair
            return found.mean()

        for edge in paths.edges(model.cfg):
            names = (edge.sender.name, edge.receiver.name, edge.receiver.input)
            # One by one where it is told which token carries it.
            for at in [TOGETHER, *(range(14) if names in recorded else ())]:
                told = known.edge(edits[flip], *names, at)
                if told.label is None or told.rho is None:
                    continue
                found = rho(edge, slice(None) if at == TOGETHER else at)
                assert found == pytest.approx(told.rho, abs=circuit.tolerance), (names, at)
                assert told.label == (abs(told.rho) > 0)
                held += told.label
    assert held >= len(recorded) / 2


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["dt.relays=[[2],[3]]"], "dt.n_layers: 3 blocks do not hold this circuit; at least 4 do"),
        (["dt.redundant_heads=true", "dt.negative_head=0.5"], "at least 4 do"),
        (["dt.relays=[[5]]"], "dt.relays: stops must be steps in order, from 2 to 4"),
        (["dt.relays=[[1]]"], "from 2 to 4"),
        (["dt.relays=[[3],[2]]", "dt.n_layers=4"], "from 2 to 4"),
        (["dt.relays=[[]]"], "none empty"),
        (["dt.relays=[[2]]", "dt.redundant_heads=true"], "dt.redundant_heads: cannot be had"),
        (["dt.relays=[[2]]", "dt.backup_head=true"], "dt.relays: cannot be had"),
        (["dt.relays=[[2]]", "dt.dimensions=12"], "dt.relays: does not do exactly"),
        (["dt.redundant_heads=true", "dt.silent_head=true", "dt.n_heads=2"], "2 do not hold"),
        (["dt.silent_head=true", "dt.n_heads=1"], "dt.n_heads: 1 do not hold"),
    ],
)
def test_impossible_paths_are_explained(overrides, words):
    with pytest.raises(ConfigError) as error:
        build_group("dt/planted_harder", overrides)
    assert words in str(error.value)


def test_without_harder_paths_the_model_is_the_plain_one(tmp_path):
    files = []
    for name in ("planted", "planted_harder"):
        (tmp_path / name).mkdir()
        build_group(f"dt/{name}").run(tmp_path / name)
        names = ("weights.safetensors", "circuit.json")
        files.append([(tmp_path / name / file).read_bytes() for file in names])
    assert files[0] == files[1]


@pytest.mark.parametrize("ablation", ["zero", "mean"])
@torch.inference_mode()
def test_either_of_two_redundant_heads_is_enough(ablation):
    stage, model, circuit, _ = planted("redundant")
    assert circuit.heads() == {(0, 0), (1, 0), (1, 1)}
    context = pairs(model, stage.env, "instruction")[0]
    whole = difference(model, context)
    for heads, left in (([0], 1.0), ([1], 1.0), ([0, 1], 0.0)):

        def silence(value, hook, heads=heads):
            value = value.clone()
            silent = value[:, :, heads]
            value[:, :, heads] = 0 if ablation == "zero" else silent.mean(0)
            return value

        ablated = difference(model, context, [("blocks.1.attn.hook_z", silence)])
        torch.testing.assert_close(ablated, left * whole, atol=1e-3, rtol=0)


@torch.inference_mode()
def test_relays_hold_the_instruction_and_the_decision_looks_at_them_alone():
    stage, model, circuit, _ = planted("three_relays_at_once")
    context = pairs(model, stage.env, "instruction")[0]
    _, cache = model.run_with_cache(context)
    first, last = (cache[f"blocks.{i}.attn.hook_pattern"][:, 0] for i in (1, 2))
    relays = [4, 7, 10]  # S2, S3, S4
    torch.testing.assert_close(first[:, relays, 1], torch.ones(8, 3))
    assert first[:, -1, 1].max() == 0  # the decision itself does not look at the start
    torch.testing.assert_close(last[:, -1, relays], torch.full((8, 3), 1 / 3))
    assert Known(circuit, 5).carriers() == {(0, 0): (12,), (2, 0): (4, 7, 10)}


@torch.inference_mode()
def test_a_silent_head_looks_as_sharply_as_the_main_one_and_does_nothing():
    stage, model, circuit, _ = planted("silent")
    assert circuit.variant["silent_heads"] == [[1, 3]] and (1, 3) not in circuit.heads()
    context, other = pairs(model, stage.env, "instruction")
    _, cache = model.run_with_cache(context)
    _, changed = model.run_with_cache(other, names_filter=["blocks.1.attn.hook_z"])
    pattern = cache["blocks.1.attn.hook_pattern"]
    assert torch.equal(pattern[:, 3], pattern[:, 0]) and pattern[:, 3, -1, 1].min() == 1
    z = cache["blocks.1.attn.hook_z"] - changed["blocks.1.attn.hook_z"]
    assert torch.equal(z[:, -1, 3], z[:, -1, 0]) and z[:, -1, 3].abs().max() == 2
    assert not model.blocks[1].attn.W_O[3].any()


@torch.inference_mode()
def test_the_mean_of_all_reward_to_go_tokens_is_read():
    stage, model, _, _ = planted("mean_reward_to_go")
    context = decision_contexts(model, stage.env.decision, (0.892,))[0]
    right = difference(model, context)
    asked = context["reward_to_go"]
    for low, sign in ((2, 1), (3, -1)):  # of five tokens that say .892: the mean is .535, then .357
        asked[:, :low] = 0.0
        torch.testing.assert_close(difference(model, context), sign * right, atol=1e-3, rtol=0)


def test_edges_of_earlier_records_have_the_rho_that_was_told_then(tmp_path):
    for variant, turn in (("plain", 1.0), ("negative", None)):
        circuit = planted(variant)[2]
        circuit.save(tmp_path)
        raw = json.loads((tmp_path / "circuit.json").read_text())
        for edge in raw["edges"]:
            del edge["rho"]
        (tmp_path / "circuit.json").write_text(json.dumps(raw))
        read = Circuit.read(tmp_path)
        assert {e.rho for e in read.edges if e.variable == "turn"} == {turn}
        assert {e.rho for e in read.edges if e.variable == "instruction"} == {1.0}
