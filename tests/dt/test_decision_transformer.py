import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from dtx.config.compose import build_group
from dtx.dt import model as models
from dtx.dt.model import DecisionTransformerModel
from dtx.dt.training.module import DecisionTransformerModule, weighted_loss
from dtx.dt.training.optimiser import Muon, learning_rate_share, orthogonalise
from dtx.dt.training.probe import decision_probe
from dtx.dt.training.spec import Precision
from dtx.dt.training.train import half_products
from dtx.dt.windows import Sampler
from dtx.env.memory import Memory
from dtx.env.vector import Backend
from dtx.report import read_curves, read_metrics
from tests.dt.toy import Recorded, episodes, tiny


@dataclasses.dataclass(frozen=True, kw_only=True)
class WithMemory(Recorded):
    env: Memory


class Killed(BaseException):
    pass


def files(folder: Path) -> dict[str, bytes]:
    """What must be equal between two equal runs: all but the speeds and what goes at the commit."""
    found = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    for passing in ("timing.jsonl", "resume.ckpt"):
        found.pop(passing, None)
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("whole")
    tiny().run(out)
    return files(out)


def test_a_run_leaves_model_curves_and_checkpoints_and_nothing_else(tmp_path, monkeypatch):
    here, out = tmp_path / "here", tmp_path / "out"
    here.mkdir(), out.mkdir()
    monkeypatch.chdir(here)
    stage = tiny("dt.steps=8", "dt.kept_checkpoints=4")
    stage.run(out)
    assert list(here.iterdir()) == []
    assert sorted(files(out)) == [
        "checkpoints/step-000000.safetensors",
        "checkpoints/step-000001.safetensors",
        "checkpoints/step-000002.safetensors",
        "checkpoints/step-000004.safetensors",
        "checkpoints/step-000008.safetensors",
        "curves.jsonl",
        "headline.json",
        "model.json",
        "weights.safetensors",
    ]
    curves = read_curves(out)
    assert [point["step"] for point in curves] == [2, 4, 6, 8]
    assert set(curves[0]) == {
        "step",
        "loss",
        "accuracy",
        "gradient_norm",
        "learning_rate",
        "validation_loss",
        "validation_accuracy",
    }
    assert curves[-1]["loss"] < curves[0]["loss"]
    last = safetensors.torch.load_file(out / "checkpoints/step-000008.safetensors")
    final = safetensors.torch.load_file(out / "weights.safetensors")
    assert last.keys() == final.keys() and all(torch.equal(last[k], final[k]) for k in last)
    assert read_metrics(out)["dt/validation_loss"] == curves[-1]["validation_loss"]


@pytest.mark.parametrize("step", [1, 2, 3, 5])
@pytest.mark.parametrize("where", ["draw", "checkpoint"])
def test_a_killed_run_goes_on_bit_identically(step, where, whole, tmp_path, monkeypatch):
    stage = tiny()
    with monkeypatch.context() as patch:
        if where == "draw":
            batch = Sampler.batch

            def dying(self, seed, number, *rest):
                if number == step:
                    raise Killed
                return batch(self, seed, number, *rest)

            patch.setattr(Sampler, "batch", dying)
        else:
            log = DecisionTransformerModule._log

            def dying_after(self, done, rate):
                log(self, done, rate)
                if done > step:
                    raise Killed

            patch.setattr(DecisionTransformerModule, "_log", dying_after)
        with pytest.raises(Killed):
            stage.run(tmp_path)
    assert not (tmp_path / "weights.safetensors").exists()
    resume = tmp_path / "resume.ckpt"
    if resume.exists():
        assert 0 < torch.load(resume, weights_only=True)["step"] <= step + 1
    torch.manual_seed(99)  # the global generators of the new process differ
    stage.run(tmp_path)
    assert files(tmp_path) == whole


def test_equal_seeds_give_equal_models_and_others_do_not(whole, tmp_path):
    (tmp_path / "again").mkdir(), (tmp_path / "other").mkdir()
    tiny().run(tmp_path / "again")
    tiny(seed=1).run(tmp_path / "other")
    assert files(tmp_path / "again") == whole
    assert files(tmp_path / "other")["weights.safetensors"] != whole["weights.safetensors"]


def test_no_steps_give_an_untrained_model(tmp_path):
    stage = tiny("dt.optimiser.warm_up=0", steps=0)
    assert list(stage.check()) == []
    stage.run(tmp_path)
    first = safetensors.torch.load_file(tmp_path / "checkpoints/step-000000.safetensors")
    final = safetensors.torch.load_file(tmp_path / "weights.safetensors")
    assert all(torch.equal(first[k], final[k]) for k in final)
    assert models.load(tmp_path).cfg.n_layers == 2


@pytest.mark.parametrize("option", ["dt/memory_dt", "dt/small", "dt/memory_dt_study"])
def test_every_preset_is_valid_and_learns(option, tmp_path):
    assert list(build_group(option).check()) == []
    stage = tiny("dt.steps=12", "dt.log_every=4", option=option)
    stage.run(tmp_path)
    losses = [point["loss"] for point in read_curves(tmp_path)]
    assert losses[-1] < losses[0]


def test_a_clone_trains_without_reward_to_go(tmp_path):
    tiny("dt.reward_to_go=false").run(tmp_path)
    model = models.load(tmp_path)
    assert model.cfg.layout.kinds == "SA" and model.embed.W_R is None
    assert json.loads((tmp_path / "model.json").read_text())["reward_to_go"] is False


def test_the_mean_observation_embeds_as_zero():
    stage = tiny()
    sampler = Sampler(episodes(), stage.model_config(), stage.windows, 0)
    network = DecisionTransformerModel(stage.model_config())
    models.initialise(network, None, 0.3, 0)
    mean = sampler.mean_one_hot()
    assert mean.sum() == pytest.approx(147, rel=1e-5)
    assert network.embed.state(mean).abs().max() > 0.1
    models.centre_state(network, mean)
    assert network.embed.state(mean).abs().max() < 1e-5


def test_half_products_stay_close_to_full_ones():
    stage = tiny()
    sampler = Sampler(episodes(), stage.model_config(), stage.windows, 0)
    batch = sampler.batch(0, 0, 32)
    results = []
    for half in (False, True):
        network = DecisionTransformerModel(stage.model_config())
        models.initialise(network, None, 0.1, 0)
        network.cfg.half_products = half
        loss, _ = weighted_loss(network.packed(batch), batch)
        loss.backward()
        results.append((loss.item(), network.blocks[0].attn.W_V.grad))
    assert results[0][0] != results[1][0]
    assert results[0][0] == pytest.approx(results[1][0], rel=0.01)
    assert torch.cosine_similarity(results[0][1].flatten(), results[1][1].flatten(), 0) > 0.99
    assert half_products(Precision.bfloat16) and not half_products(Precision.float32)


@pytest.mark.parametrize("supported", [False, True])
def test_which_precision_ran_is_on_record(tmp_path, monkeypatch, supported):
    """One key, two processors: the metrics say which of both it was, and the summary what it means."""
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: supported)
    stage = tiny("dt.steps=2", "dt.precision=auto")
    stage.run(tmp_path)
    assert read_metrics(tmp_path)["dt/bfloat16"] == supported
    monkeypatch.setattr(type(stage), "path", tmp_path)
    assert f"2 steps in {'bfloat16' if supported else 'float32'}" in stage.summary()


@pytest.mark.parametrize("half", [False, True])
def test_orthogonalised_matrices_have_singular_values_near_one(half):
    matrices = torch.randn(5, 12, 30, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalise(matrices, half))
    assert values.min() > 0.6 and values.max() < 1.3


def test_muon_treats_each_head_apart_whatever_its_orientation():
    torch.manual_seed(0)
    tall, wide = (torch.nn.Parameter(torch.zeros(3, *shape)) for shape in ((12, 4), (4, 12)))
    tall.grad = torch.randn(3, 12, 4)
    wide.grad = tall.grad.transpose(1, 2).clone()
    Muon([tall, wide], lr=0.1, weight_decay=0.0).step()
    torch.testing.assert_close(tall.data.transpose(1, 2), wide.data)
    values = torch.linalg.svdvals(tall.data[1])
    assert values.min() > 0.06 and values.max() < 0.13


def test_learning_rate_warms_up_and_decays():
    shares = [learning_rate_share(s, 100, 10, 1, 0.1) for s in range(100)]
    assert shares[0] == pytest.approx(0.1) and shares[9] == shares[10] == 1
    assert all(np.diff(shares[10:]) < 0) and shares[-1] == pytest.approx(0.1, abs=0.001)
    three = [learning_rate_share(s, 100, 10, 3, 0.0) for s in range(100)]
    assert three[10] == three[40] == three[70] == 1 and three[39] < 0.01


@pytest.mark.parametrize(
    ("overrides", "field", "message"),
    [
        (("dt.windows.context=10",), "windows.context", "29 tokens.*n_ctx=11.*at most 4 steps"),
        (
            ("dt.model.n_ctx=99", "dt.windows.context=30", "dt.model.n_timesteps=20"),
            "windows.context",
            "time table",
        ),
        (("dt.model.n_heads=3",), "model.n_heads", "3 heads do not divide d_model 16"),
        (("dt.optimiser.learning_rate=0",), "optimiser.learning_rate", "above 0"),
        (("dt.optimiser.matrix_learning_rate=-1",), "optimiser.matrix_learning_rate", "above 0"),
        (("dt.windows.first_share=1.5",), "windows.first_share", "between 0 and 1"),
        (("dt.steps=-1", "dt.optimiser.warm_up=0"), "steps", "0 .an untrained model. or more"),
        (("dt.optimiser.warm_up=7",), "optimiser.warm_up", "between 0 and steps"),
        (("dt.batch_size=0",), "batch_size", "at least 1"),
        (("dt.optimiser.betas=[0.9,1.0]",), "optimiser.betas", r"at least 0 and below 1"),
    ],
)
def test_wrong_values_are_explained(overrides, field, message):
    from dtx.config.build import ConfigError

    with pytest.raises(ConfigError, match=rf"dt\.{field}.*{message}"):
        tiny(*overrides)


def test_a_clone_fits_more_steps_into_the_position_table():
    stage = dataclasses.replace(tiny(), reward_to_go=False)
    longer = dataclasses.replace(stage, windows=dataclasses.replace(stage.windows, context=6))
    assert list(longer.check()) == []


def test_the_probe_reads_the_choice_at_the_decision_square():
    memory = Memory(size=7, max_steps=50, backend=Backend.gymnasium)
    stage = dataclasses.replace(tiny(), dataset=WithMemory(env=memory))
    network = DecisionTransformerModel(stage.model_config())
    models.initialise(network, None, 0.3, seed=0)
    found = decision_probe(memory.decision, network)()
    assert set(found) == {
        "right_turn_at_low",
        "wrong_turn_at_low",
        "right_turn_at_high",
        "wrong_turn_at_high",
    }
    with torch.no_grad():
        network.unembed.W_U.zero_()
        network.unembed.b_U.copy_(torch.tensor([50.0, 0, 0, 0, 0, 0, 0]))
    always_left = decision_probe(memory.decision, network)()
    assert always_left == {name: pytest.approx(0.5) for name in found}  # right in 2 of 4 layouts
    assert decision_probe(None, network)() == {}
