import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch

from dtx.analysis.attribution.compute import attribute
from dtx.analysis.congruence import Congruence
from dtx.analysis.congruence import compute as computing
from dtx.analysis.congruence.compute import MEAN, TOLERANCE, congruence, growth_of, identity_errors
from dtx.analysis.congruence.spec import CongruenceSpec
from dtx.analysis.core.inputs import Inputs
from dtx.analysis.core.result import Verdict
from dtx.config.ranges import problems
from dtx.dt.processing import processed
from dtx.env.actions import Action
from dtx.report import read_metrics
from dtx.running.runner import run
from tests.dt.test_model import VARIANTS, build, contexts
from tests.dt.test_processing import scramble


@pytest.fixture
def stage(env, rollouts, tiny) -> Congruence:
    two_layers = dataclasses.replace(tiny.model, n_layers=2)
    return Congruence(
        windows=Inputs(env=env, dataset=rollouts, targets=(0.0, 0.9), count=8, seed=0),
        dt=dataclasses.replace(tiny, model=two_layers, kept_checkpoints=2),
        checkpoint=None,
        actions=(Action.left, Action.forward),
        untrained=1,
        seed=0,
    )


@pytest.mark.parametrize("variant", VARIANTS)
def test_activations_times_congruence_are_the_mlps_attribution(variant):
    spec, model = build(*VARIANTS[variant])
    scramble(model)
    context = contexts(spec)
    errors = identity_errors(model, context)
    assert set(errors) == ({"raw", "folded"} if model.cfg.normalization_type else {"raw"})
    assert max(errors.values()) < 1e-10
    # The other way round: the attribution's neurons are activations times folded congruence over the scale.
    found = attribute(model, context, (0, 2))
    twin = processed(model, dtype=torch.float64)
    _, cache = twin.run_with_cache(context.to(torch.float64))
    scale = cache["ln_final.hook_scale"][:, -1] if model.cfg.normalization_type else 1.0
    for layer in range(model.cfg.n_layers):
        column = congruence(twin)[layer][:, 0] - congruence(twin)[layer][:, 2]
        post = cache[f"blocks.{layer}.mlp.hook_post"][:, -1]
        assert torch.allclose(found.neuron_blf[:, layer], post * column / scale)


def rows(sizes: dict[int, float], seed: int = 0, neurons: int = 400) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    parts = [
        pd.DataFrame(
            {"layer": layer, "action": "left", "congruence": size * rng.standard_normal(neurons)}
        )
        for layer, size in sizes.items()
    ]
    return pd.concat(parts)


@pytest.mark.parametrize(
    ("sizes", "grown"),
    [
        ({0: 1.0, 1: 1.5, 2: 3.0}, True),
        ({0: 3.0, 1: 1.5, 2: 1.0}, False),
        ({0: 1.0, 1: 4.0, 2: 3.0}, False),
        ({0: 1.0, 1: 1.05, 2: 1.2}, None),  # as much as an untrained model may by chance
        ({0: 1.0}, False),
    ],
)
def test_growth_is_found_where_it_is(sizes, grown):
    chance = [rows(dict.fromkeys(sizes, 1.0), seed) for seed in range(1, 6)]
    found = growth_of(rows(sizes), chance, MEAN)["left"]
    assert found.grown is grown
    assert found.ratio == pytest.approx(list(sizes.values())[-1] / sizes[0], rel=0.15)
    assert len(sizes) == 1 or found.chance.low < 1 < found.chance.high


def test_untrained_weights_seldom_grow():
    """At most one in twenty, of any action and measure, though one in six rises through three layers."""
    flat = dict.fromkeys(range(3), 1.0)
    models = [rows(flat, seed, 100) for seed in range(300)]
    found = [growth_of(models[i], models[i + 1 : i + 6], MEAN)["left"] for i in range(0, 300, 6)]
    assert sum(bool(g.grown) for g in found) <= 3
    assert sum(g.grown is not False for g in found) > 3


def test_stage_shows_checkpoints_and_the_untrained_twin(store, experiment_of, stage):
    run(experiment_of(stage))
    numbers = read_metrics(stage.path)
    assert numbers["congruence/identity_error"] < TOLERANCE
    table = pd.read_parquet(stage.path / "tables" / "congruence.parquet")
    assert (
        len(table) == 2 * 2 * 2 * stage.dt.model.d_mlp * 2
    )  # models, weights, layers, neurons, actions
    growth = pd.read_parquet(stage.path / "tables" / "growth.parquet")
    assert set(growth.step.dropna()) == set(stage.dt.checkpoints())
    final = growth[(growth.model == "trained") & growth.step.isna()].set_index(["layer", "action"])
    kept = growth[growth.step == stage.dt.steps].set_index(["layer", "action"])
    assert np.allclose(final["size"], kept["size"][final.index])  # the last checkpoint is the model
    (claim,) = stage.result().claims
    assert "congruence with left/forward grows with layer" in claim.text
    (control,) = stage.result().controls
    assert stage.result().established == control.holds  # three steps of training do little
    assert (stage.path / "figures" / "congruence.png").stat().st_size > 10_000


SPEC = CongruenceSpec(actions=(Action.left, Action.right), untrained=1, seed=0)


def aligned(model):
    """Neurons write along the actions' directions, the later ones more."""
    for layer, block in enumerate(model.blocks):
        block.mlp.W_out.data += (4 * layer + 1) * model.W_U.T[np.arange(len(block.mlp.W_out)) % 2]
    return model


@pytest.mark.parametrize("broken", ["values", "missing"])
def test_a_broken_identity_is_not_established(monkeypatch, broken):
    """Weights that are not those of the run, and numbers that are none."""
    spec, model = build()
    aligned(model)
    found = computing.compute(SPEC, model, contexts(spec))
    assert found.established and found.claims[0].verdict is Verdict.CONFIRMED
    factor = 2.0 if broken == "values" else torch.nan
    monkeypatch.setattr(computing, "congruence", lambda m: factor * congruence(m))
    result = computing.compute(SPEC, model, contexts(spec))
    assert not result.established and not any(check.holds for check in result.checks)
    assert [claim.verdict for claim in result.claims] == [Verdict.NOT_ESTABLISHED]


def test_an_untrained_model_is_not_established():
    spec, model = build()
    result = computing.compute(SPEC, model, contexts(spec))
    assert all(check.holds for check in result.checks) and not result.established
    assert "untrained" in result.summary


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"actions": ()}, "actions"),
        ({"actions": (Action.left, Action.left)}, "actions"),
        ({"untrained": -1}, "untrained"),
    ],
)
def test_impossible_values_are_named(stage, change, field):
    wrong = dataclasses.replace(stage, **change)
    assert [name for name, _ in (*problems(wrong), *wrong.check())] == [field]
