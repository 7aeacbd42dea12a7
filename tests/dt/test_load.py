import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from dtx.config.compose import build_group
from dtx.config.kinds import fits
from dtx.config.ranges import problems
from dtx.dataset.rollouts import Rollouts
from dtx.dt.decision_transformer import DecisionTransformer
from dtx.dt.load import load_at, untrained_like
from dtx.dt.model import DecisionTransformerModel, load, save
from dtx.dt.model_config import ModelConfig
from dtx.dt.model_stage import ModelStage
from dtx.errors import UserError
from dtx.running.runner import run
from dtx.store.store import Store, used
from tests.dt.toy import Drawn, tiny


def test_a_trained_model_fits_and_a_dataset_does_not():
    assert fits(DecisionTransformer, ModelStage)
    assert not fits(Rollouts, ModelStage)


def test_a_kept_step_is_loaded_and_another_is_refused(store, experiment_of):
    stage = tiny()
    run(experiment_of(stage))
    first, last = load_at(stage, 0), load_at(stage, None)
    assert torch.equal(load_at(stage, stage.steps).W_U, last.W_U)
    assert not torch.equal(first.W_U, last.W_U)
    with pytest.raises(UserError, match=r"checkpoint=5: .* kept no such step \(kept: 0, "):
        load_at(stage, 5)


def test_a_stage_says_what_its_model_was_trained_on(store, experiment_of):
    stage = tiny()
    assert stage.trained_on is stage.dataset and stage.trained_windows is stage.windows
    run(experiment_of(stage))
    stored = Drawn(dataset=stage.dataset)
    run(experiment_of(stored))
    assert stored.trained_on is None and stored.trained_windows is None
    assert stored.model_config().to_dict() == stage.model_config().to_dict()


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "[1]",
        "no JSON",
        None,
        "",
        "\0",
        "null",
        "[" * 100_000,
        '{"n_layers": NaN}',
        "\ufeff{}",
    ],
)
def test_a_description_that_is_none_is_explained(tmp_path, text):
    if text is not None:
        (tmp_path / "model.json").write_text(text)
    with pytest.raises(
        UserError, match=r"model.json: not a readable model .* invalidate the stage"
    ):
        ModelConfig.read(tmp_path)


def of_zeros() -> DecisionTransformerModel:
    """A model whose parameters, which are made without a value, are 0."""
    network = DecisionTransformerModel(tiny().model_config())
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    return network


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("n_layers", 10**9, "blocks, but the description says 1000000000"),
        ("n_layers", 1, "blocks, but the description says 1"),
        ("d_model", 10**9, r"is \(.*16.*\), but the description says \(.*1000000000.*\)"),
        ("d_mlp", 10**9, "blocks.0.mlp.*, but the description says .*1000000000"),
        ("n_timesteps", 2 * 10**9, "W_time.*, but the description says .*2000000000"),
        ("n_ctx", 2 * 10**9, "W_pos.*, but the description says .*2000000000"),
        ("d_head", 10**9, "blocks.0.attn.*, but the description says .*1000000000"),
        ("n_heads", 10**9, "blocks.0.attn.*, but the description says .*1000000000"),
        ("n_actions", 10**9, "W_A is .*, but the description says .*1000000001"),
        ("n_channels", 10**9, ", but the description says .*1000000000"),
        ("gated_mlp", True, "is None, but the description says"),
        ("positional_embedding", False, "but the description says None"),
        ("n_heads", 10**12, "n_heads is '1000000000000'"),
        ("n_heads", -1, "n_heads is '-1'"),
        ("n_heads", True, "n_heads is 'True'"),
        ("n_heads", 2.5, "n_heads is '2.5'"),
        ("gated_mlp", "no", "gated_mlp is 'no', not a bool"),
        ("act_fn", 3, "act_fn is '3', not a str"),
    ],
)
def test_a_description_that_asks_for_more_than_the_weights_hold_takes_no_memory(
    tmp_path, name, value, message
):
    save(of_zeros(), tmp_path)
    described = json.loads((tmp_path / "model.json").read_text())
    (tmp_path / "model.json").write_text(json.dumps({**described, name: value}))
    with pytest.raises(UserError, match=message):
        load(tmp_path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(tmp_path, value):
    network = of_zeros()
    with torch.no_grad():
        network.unembed.W_U[0, 0] = value
    save(network, tmp_path)
    with pytest.raises(UserError, match=r"unembed.W_U holds a number that is not finite"):
        load(tmp_path)


def test_an_untrained_twin_has_the_architecture_and_other_weights(store, experiment_of):
    stage = tiny()
    run(experiment_of(stage))
    model = stage.load()
    one, two = untrained_like(model, 1), untrained_like(model, 1)
    assert one.cfg.to_dict() == model.cfg.to_dict()
    assert torch.equal(one.W_Q, two.W_Q) and not torch.allclose(one.W_Q, model.W_Q)
    assert not torch.equal(one.W_Q, untrained_like(model, 2).W_Q)
    assert one.W_Q.std().item() == pytest.approx(1 / np.sqrt(model.cfg.d_model), rel=0.15)


def test_a_negative_step_is_no_checkpoint():
    stage = build_group("analysis/lens", ["dt=planted"])
    for step, places in ((-1, ["checkpoint"]), (0, []), (None, [])):
        assert [place for place, _ in problems(replace(stage, checkpoint=step))] == places


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """The planted model, committed; with the store that it is in."""
    kept = Store(tmp_path_factory.mktemp("planted") / "store")
    stage = build_group("dt/planted")
    with kept.work(stage) as work:
        stage.run(work)
        kept.commit(stage, work, {})
    return kept, stage


WITH_ENV = ["attention", "lens", "neurons", "psychology", "steering"]
WITH_WINDOWS = ["ablation", "attribution", "circuits", "congruence", "equivalence"]


@pytest.mark.parametrize("name", WITH_ENV + WITH_WINDOWS)
def test_analyses_refuse_an_environment_that_is_not_the_models(planted, tmp_path, name):
    kept, dt = planted
    stage = build_group(f"analysis/{name}", ["dt=planted"])
    other = build_group("env/dynamic_obstacles")
    windows = name in WITH_WINDOWS
    place = {"windows": replace(stage.windows, env=other)} if windows else {"env": other}
    with used(kept), pytest.raises(UserError, match=r"planted-\w+ has 7 actions, but .* has 3"):
        replace(stage, dt=dt, **place).run(tmp_path)
    if name in ("psychology", "steering"):  # they play to the end
        place = {"env": replace(stage.env, max_steps=51)}
        with used(kept), pytest.raises(UserError, match=r"knows 50 timesteps, but .* may last 51"):
            replace(stage, dt=dt, **place).run(tmp_path)
