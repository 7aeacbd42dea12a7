import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from dtx.config.build import ConfigError
from dtx.config.compose import build_group
from dtx.dt.circuit import Circuit, CircuitNode
from dtx.dt.planted.compile import compiled
from dtx.dt.planted.features import CIRCUIT, lay_out
from dtx.dt.rollout import decision_contexts, greedy_by_layout
from dtx.env.memory import FORWARD, LEFT, RIGHT
from dtx.errors import UserError
from dtx.report import read_metrics
from dtx.running.runner import run
from tests.dt.patching import FLIPS, TARGETS, difference, expected, pairs, restored, sites
from tests.dt.planted_variants import QUICK, VARIANTS, planted


@pytest.mark.parametrize("variant", VARIANTS)
def test_all_greedy_rollouts_are_right(variant):
    stage, model, circuit, headline = planted(variant)
    outcome = greedy_by_layout(model, stage.env.decision, TARGETS)
    assert outcome.tolist() == [[1] * 4, [0] * 4]  # wrong object if little is asked for, else right
    assert headline["planted/right_rollouts"] == headline["planted/rollouts"] == 8
    assert headline["planted/least_logit_difference"] == pytest.approx(
        circuit.logit_difference, rel=1e-2
    )


@pytest.mark.parametrize("variant", ["plain", "rotated", "backup", "distractors"])
def test_logit_differences_are_40_to_the_side_wanted(variant):
    stage, model, circuit, _ = planted(variant)
    decision = stage.env.decision
    for target, context in zip(TARGETS, decision_contexts(model, decision, TARGETS), strict=True):
        right, wrong = decision.turns(np.arange(4))
        sign = np.where((right if target else wrong) == LEFT, 1, -1)
        np.testing.assert_allclose(difference(model, context), 40 * sign, atol=1e-4)
    assert circuit.logit_difference == 40


@pytest.mark.parametrize(
    "variant",
    [pytest.param(v, marks=() if v in QUICK else pytest.mark.slow) for v in VARIANTS],
)
@pytest.mark.parametrize("flip", FLIPS)
def test_each_node_at_each_token_restores_what_the_circuit_says(variant, flip):
    stage, model, circuit, _ = planted(variant)
    clean, corrupt = pairs(model, stage.env, flip)
    tokens = clean.shape[1]
    assert tokens == 14
    for hook, head in sites(circuit):
        rho = restored(model, clean, corrupt, hook, head)
        told = expected(circuit, flip, hook, head, steps=5)
        worst = np.abs(rho - told).max()
        assert worst <= circuit.tolerance, (hook, head, rho.mean(0).round(3), told)


def test_the_instruction_is_at_its_own_token_until_it_is_at_the_last():
    stage, model, circuit, _ = planted("plain")
    clean, corrupt = pairs(model, stage.env, "instruction")
    changed = (clean["observation"] != corrupt["observation"]).any(0)
    assert changed.tolist() == [True, False, False, False, False]
    points = [f"blocks.{i}.hook_resid_{x}" for i in range(3) for x in ("pre", "mid", "post")]
    where = [restored(model, clean, corrupt, p, None).mean(0).argmax() for p in points]
    assert where == [1, 1, 1, 1, 13, 13, 13, 13, 13]
    assert circuit.heads() == {(0, 0), (1, 0)}


@pytest.mark.parametrize("variant", ["plain", "rotated", "backup", "distractors"])
def test_direct_attribution_lies_in_the_deciding_mlp_alone(variant):
    stage, model, _, _ = planted(variant)
    context = pairs(model, stage.env, "instruction")[0]
    _, cache = model.run_with_cache(context)
    direction = model.W_U[:, LEFT] - model.W_U[:, RIGHT]
    parts = {"embed": cache["hook_embed"] + cache["hook_pos_embed"]}
    for layer in range(3):
        parts |= {f"{layer}.{x}": cache[f"blocks.{layer}.hook_{x}_out"] for x in ("attn", "mlp")}
    found = {k: v[:, -1] @ direction for k, v in parts.items()}
    deciding = found.pop(f"{stage.deciding_layer}.mlp")
    torch.testing.assert_close(deciding, difference(model, context), atol=1e-4, rtol=0)
    assert max(v.abs().max().item() for v in found.values()) < 1e-4


def test_one_neuron_fires_and_its_signs_are_the_windows():
    stage, model, circuit, _ = planted("plain")
    context = pairs(model, stage.env, "instruction")[0]
    _, cache = model.run_with_cache(context, names_filter=["blocks.1.mlp.hook_post"])
    post = cache["blocks.1.mlp.hook_post"][:, -1]
    torch.testing.assert_close(post.sort(1).values[:, -1], torch.ones(8), atol=1e-4, rtol=0)
    assert (post.sort(1).values[:, -2] < 1e-4).all()
    fired = post.argmax(1).tolist()
    assert sorted(fired) == list(range(8))  # four layouts, two reward-to-gos: each combination once
    instruction, key_left = [1, 1, -1, -1] * 2, [1, -1, -1, 1] * 2
    for row, neuron in enumerate(fired):
        known = circuit.neurons[neuron]
        assert (known.layer, known.neuron) == (1, neuron)
        signs = (known.instruction, known.target, known.high)
        assert signs == (instruction[row], key_left[row], 1 if row >= 4 else -1)
        side = LEFT if known.writes == "left" else RIGHT
        with torch.no_grad():
            assert model(context[row])[0, -1].argmax() == side


def test_distractors_attend_and_carry_the_instruction_without_any_effect():
    stage, model, circuit, _ = planted("distractors")
    clean, corrupt = pairs(model, stage.env, "instruction")
    slots = [tuple(slot) for slot in circuit.variant["distractor_heads"]]
    assert len(slots) == 9 and not circuit.heads() & set(slots)
    before = model(clean)
    _, cache = model.run_with_cache(clean)
    _, other = model.run_with_cache(corrupt)
    told = 0
    for layer, head in slots:
        name = f"blocks.{layer}.attn"
        pattern = cache[f"{name}.hook_pattern"][:, head, -1]
        assert (pattern - 1 / 14).abs().max() > 0.05  # it does look somewhere
        z = f"{name}.hook_z"
        told += ((cache[z] - other[z])[:, -1, head].abs().max() > 0.01).item()
        assert (cache[z][:, :, head] @ model.blocks[layer].attn.W_O[head]).abs().max() > 0.1

        def silence(value, hook, head=head):
            value = value.clone()
            value[:, :, head] = 0
            return value

        with model.hooks(fwd_hooks=[(z, silence)]):
            assert torch.equal(model(clean), before)
    assert told >= 3


@pytest.mark.parametrize("ablation", ["zero", "mean"])
def test_the_backup_takes_over_when_the_main_head_is_ablated(ablation):
    def silence(value, hook):
        value = value.clone()
        value[:, :, 0] = 0 if ablation == "zero" else value[:, :, 0].mean(0)
        return value

    hook = [("blocks.1.attn.hook_z", silence)]
    for variant, left in (("plain", 0.0), ("backup", 1.0)):
        stage, model, _, _ = planted(variant)
        context = pairs(model, stage.env, "instruction")[0]
        whole, ablated = difference(model, context), difference(model, context, hook)
        torch.testing.assert_close(ablated, left * whole, atol=1e-3, rtol=0)
    _, cache = model.run_with_cache(context, names_filter=["blocks.2.attn.hook_z"])
    assert cache["blocks.2.attn.hook_z"][:, -1, 0].abs().max() < 1e-6  # silent beside the main head


def test_the_negative_head_takes_back_its_share():
    stage, model, circuit, _ = planted("negative")
    context = pairs(model, stage.env, "instruction")[0]
    _, cache = model.run_with_cache(context)
    direction = model.W_U[:, LEFT] - model.W_U[:, RIGHT]
    decided = cache["blocks.1.hook_mlp_out"][:, -1] @ direction
    taken = cache["blocks.2.hook_attn_out"][:, -1] @ direction
    torch.testing.assert_close(taken, -0.25 * decided, atol=1e-4, rtol=0)
    assert circuit.logit_difference == 30
    node = CircuitNode("blocks.2.attn.hook_z", 0, "last_state")
    assert circuit.rho("instruction", node) == pytest.approx(-1 / 3)


def test_superposed_features_overlap_and_others_do_not():
    for dimensions, least, most in ((None, 0, 1e-12), (12, 0.05, 0.7)):
        directions = lay_out(CIRCUIT + list("abcd"), dimensions, False, False, 0).write_fd
        products = np.abs(directions @ directions.T - np.eye(15))
        assert least <= products.max() <= most
    assert planted("superposed")[1].cfg.d_model == 12


def test_layer_norm_directions_sum_to_zero_and_readers_read_their_own():
    for layer_norm, rotation in ((True, False), (True, True), (False, True)):
        layout = lay_out(CIRCUIT, None, layer_norm, rotation, 3)
        if layer_norm:
            np.testing.assert_allclose(layout.write_fd.sum(1), 0, atol=1e-12)
        read = np.stack([layout.read(name) for name in CIRCUIT])
        np.testing.assert_allclose(read @ layout.write_fd.T, np.eye(len(CIRCUIT)), atol=1e-9)
        assert np.abs(read @ layout.ballast).max() < 1e-9


def test_without_an_instruction_in_the_window_it_walks_on():
    stage, model, _, _ = planted("plain")
    context = decision_contexts(model, stage.env.decision, (0.892,))[0]
    context["observation"][:, 0] = context["observation"][:, 1]
    with torch.no_grad():
        assert (model(context)[:, -1].argmax(-1) == FORWARD).all()


def test_larger_worlds_are_solved_as_well(tmp_path):
    build_group("dt/planted", ["env.size=9"]).run(tmp_path)
    assert read_metrics(tmp_path)["planted/right_rollouts"] == 8


def test_it_is_a_stage_like_any_other_and_repeats_bit_by_bit(store, experiment_of, tmp_path):
    stage = build_group("dt/planted", VARIANTS["superposed"])
    run(experiment_of(stage))
    stage.run(tmp_path)
    for name in ("weights.safetensors", "model.json", "circuit.json"):
        assert (stage.path / name).read_bytes() == (tmp_path / name).read_bytes()
    assert "8 of 8 greedy rollouts right" in stage.summary()
    assert stage.checkpoints() == {} and stage.model_config().reward_to_go
    assert stage.trained_on is None and stage.trained_windows is None
    assert stage.circuit() == Circuit.read(tmp_path)
    assert stage.load().cfg.d_model == 12


def test_seeds_turn_directions_and_nothing_else():
    models = []
    for seed in (0, 1):
        stage = build_group("dt/planted", ["dt.rotation=true", f"dt.seed={seed}"])
        layout = lay_out(stage.features(), None, False, True, seed)
        models.append(compiled(stage, layout))
    one, two = models
    assert not torch.allclose(one.W_U, two.W_U)
    context = decision_contexts(one, stage.env.decision, TARGETS)[0]
    with torch.no_grad():
        torch.testing.assert_close(one(context), two(context), atol=1e-3, rtol=0)


def test_too_tight_a_superposition_is_refused(tmp_path):
    stage = build_group("dt/planted", [*VARIANTS["crowded"], "dt.dimensions=9"])
    with pytest.raises(UserError, match=r"is right in \d of 8 .* use more dt.dimensions \(9\)"):
        stage.run(tmp_path)
    assert not (tmp_path / "weights.safetensors").exists()


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["dt.context=5"], "5 steps do not hold the routine's 6"),
        (["dt.n_layers=1"], "dt.n_layers: 1 blocks do not hold this circuit; at least 2 do"),
        (["dt.backup_head=true", "dt.negative_head=0.5"], "at least 4 do"),
        (["dt.threshold=[0.5,0.4]"], "dt.threshold: must be ordered"),
        (["dt.dimensions=15"], "dt.dimensions: superposition of 15 features takes 9 to 14"),
        (
            ["dt.dimensions=12", "dt.backup_head=true"],
            "dt.backup_head: does not do exactly its part",
        ),
        (["dt.dimensions=12", "dt.distractor_heads=1"], "dt.distractor_heads: does not do"),
        (["dt.negative_head=1"], "dt.negative_head: must be at least 0 and below 1"),
        (["dt.distractor_heads=11"], "11 do not fit: 10 heads are free"),
        (["env=minigrid"], "a Memory is wanted"),
    ],
)
def test_impossible_variants_are_explained(overrides, words):
    with pytest.raises(ConfigError) as error:
        build_group("dt/planted", overrides)
    assert words in str(error.value)


def test_a_damaged_circuit_is_explained(tmp_path):
    for text in ("{", json.dumps({"nodes": [{}]})):
        (tmp_path / "circuit.json").write_text(text)
        with pytest.raises(UserError, match="no readable circuit"):
            Circuit.read(tmp_path)


def test_planning_needs_no_torch():
    names = ("planted", "planted_harder", "interchange", "shuffled_reward_to_go")
    code = (
        "import sys; from dtx.config.compose import build_group;"
        f"[build_group(f'dt/{{n}}').label for n in {names}];"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
