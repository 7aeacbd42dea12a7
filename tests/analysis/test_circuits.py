import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch

from dtx.analysis.circuits import Circuits
from dtx.analysis.circuits import compute as computing
from dtx.analysis.circuits.compute import TOLERANCE, Scores
from dtx.analysis.circuits.spec import CircuitsSpec
from dtx.analysis.circuits.weights import composition, singular, written
from dtx.analysis.core.inputs import Inputs
from dtx.analysis.core.result import Verdict
from dtx.config.ranges import problems
from dtx.dt.processing import processed
from dtx.report import read_metrics
from dtx.running.runner import run
from dtx.statistics import effective_rank
from tests.dt.test_model import VARIANTS, build, contexts
from tests.dt.test_parity import context_of, network, windows  # noqa: F401  # fixtures
from tests.dt.test_processing import published, scramble


@pytest.fixture
def stage(env, rollouts, tiny) -> Circuits:
    two_layers = dataclasses.replace(tiny.model, n_layers=2)
    return Circuits(
        windows=Inputs(env=env, dataset=rollouts, targets=(0.0, 0.9), count=8, seed=0),
        dt=dataclasses.replace(tiny, model=two_layers),
        checkpoint=None,
        untrained=1,
    )


@pytest.mark.parametrize("variant", VARIANTS)
def test_factorised_scores_are_those_of_the_model_itself(variant):
    """Of the folded twin (``error``) and of the model as it is, up to a number for each query."""
    spec, model = build(*VARIANTS[variant])
    scramble(model)
    context = contexts(spec)
    scores = Scores(processed(model, dtype=torch.float64), context)
    assert scores.error() < 1e-10
    _, cache = model.double().run_with_cache(context.to(torch.float64))
    for layer, total in enumerate(scores.total):
        pattern = total.masked_fill(~scores.visible_nm, -torch.inf).softmax(-1)
        assert torch.allclose(pattern, cache[f"blocks.{layer}.attn.hook_pattern"], atol=1e-10)


def test_parts_of_a_score_add_up_in_the_table():
    spec, model = build()
    scores = Scores(processed(model, dtype=torch.float64), contexts(spec))
    table = scores.table()
    total = table.groupby(["layer", "head"]).score.sum()
    for (layer, head), value in total.items():
        real = scores.real[layer][:, head][:, scores.visible_nm].mean()
        assert value == pytest.approx(real.item(), abs=1e-10)


def test_weights_that_want_a_gradient_are_read_without_a_warning():
    _, model = build()
    assert model.W_Q.requires_grad
    bare = processed(model, (), torch.float64)
    for read in (composition, singular):
        pd.testing.assert_frame_equal(read(model.double()), read(bare))
    assert not written(model).requires_grad


def plant(model, source: int, target: int) -> None:
    """Head ``target`` of layer 1 queries exactly what head ``source`` of layer 0 writes."""
    with torch.no_grad():
        first, second = model.blocks[0].attn, model.blocks[1].attn
        second.W_Q[target] = first.W_O[source].T


def test_a_planted_composition_is_the_strongest():
    _, model = build("dt.model.d_model=64", "dt.model.n_heads=8")
    plant(model, source=5, target=2)
    table = composition(processed(model, (), torch.float64)).sort_values("score")
    strongest = table.iloc[-1]
    assert (strongest.kind, strongest.source, strongest.target) == ("Q", "L0H5", "L1H2")
    assert table.score.between(0, 1).all()
    # Pairs that are random to each other: 1/sqrt(d) in the mean.
    assert table.score[table.kind == "V"].mean() == pytest.approx(1 / 8, rel=0.2)


def test_singular_values_make_up_the_matrix_and_ranks_are_counted():
    _, model = build()
    twin = processed(model, dtype=torch.float64)
    table = singular(twin)
    for (circuit, layer, head), part in table.groupby(["circuit", "layer", "head"]):
        attn = twin.blocks[layer].attn
        matrix = (
            attn.W_Q[head] @ attn.W_K[head].T
            if circuit == "QK"
            else attn.W_V[head] @ attn.W_O[head]
        )
        assert np.sqrt((part.value**2).sum()) == pytest.approx(matrix.norm().item())
    assert effective_rank(np.array([3.0, 3.0, 0.0])) == pytest.approx(2)
    assert effective_rank(np.array([5.0, 0.0])) == pytest.approx(1)


@published
def test_the_published_models_scores_factorise(network, windows):  # noqa: F811
    scores = Scores(processed(network, dtype=torch.float64), context_of(windows))
    assert scores.error() < 1e-10


def test_stage_writes_tables_figures_and_verdict(store, experiment_of, stage):
    run(experiment_of(stage))
    numbers = read_metrics(stage.path)
    assert numbers["circuits/identity_error"] < TOLERANCE
    assert numbers["circuits/distinct_inputs"] == 8
    read = {
        name: pd.read_parquet(stage.path / "tables" / f"{name}.parquet")
        for name in ("modality", "parts", "ov", "composition", "singular")
    }
    for name, table in read.items():
        assert set(table.model) == {"trained", "untrained"}, name
    assert set(read["modality"]["query"]) == {"R", "S", "A"}
    # Layer 1 to layer 2 only: 2 x 2 heads, 3 kinds, 2 models.
    assert len(read["composition"]) == 2 * 2 * 3 * 2
    # A head's value for a token, against the stored one.
    twin = processed(stage.dt.load(), dtype=torch.float64)
    attn = twin.blocks[1].attn
    wanted = twin.embed.W_A[2] @ attn.W_V[1] @ attn.W_O[1] @ twin.W_U
    ov = read["ov"]
    ov = ov[(ov.model == "trained") & (ov.layer == 1) & (ov["head"] == 1)]
    mine = ov[ov.token == "action forward"].value.to_numpy()
    assert np.allclose(mine, wanted.detach().numpy())
    result = stage.result()
    (control,) = result.controls
    assert result.established == control.holds
    assert control.against == numbers["circuits/preference_untrained_max"]
    assert not result.claim("heads_compose").verdict.states  # three steps of training
    modality = read["modality"]
    assert set(modality.target) == set(stage.windows.targets)
    assert (modality.n == 4).all() and (modality.interval == "t over 4 layouts").all()
    assert modality.groupby("model").written.mean().to_numpy() == pytest.approx(1)
    for name in ("circuits.png", "composition.png"):
        assert (stage.path / "figures" / name).stat().st_size > 10_000


@pytest.fixture
def episodes(store, experiment_of, rollouts):
    run(experiment_of(rollouts))
    return rollouts.load()


def frame_of(context) -> pd.DataFrame:
    return pd.DataFrame({"window": range(len(context)), "layout": "", "target": 0.9})


def attentive(model) -> None:
    """Heads of the first layer tell tokens apart more than random ones do."""
    with torch.no_grad():
        model.blocks[0].attn.W_Q *= 6


@pytest.mark.parametrize("broken", [3.0, float("nan")])
def test_a_broken_identity_is_not_established(monkeypatch, episodes, broken):
    """Scores at run time that the parts do not add up to, while heads compose."""
    spec, model = build("dt.model.d_model=64", "dt.model.n_heads=8")
    plant(model, source=5, target=2)
    attentive(model)
    settings, context = CircuitsSpec(untrained=1), contexts(spec)
    found = computing.compute(settings, model, context, frame_of(context), episodes)
    assert found.established and found.claim("heads_compose").verdict is Verdict.CONFIRMED
    assert "L0H5 -> L1H2 (Q)" in found.claim("heads_compose").evidence

    class Broken(Scores):
        def __init__(self, model, context):
            super().__init__(model, context)
            self.real = [score + broken for score in self.real]

    monkeypatch.setattr(computing, "Scores", Broken)
    result = computing.compute(settings, model, context, frame_of(context), episodes)
    assert all(control.holds for control in result.controls) and not result.established
    assert "attention scores" in result.summary


def test_a_head_that_writes_nothing_does_not_compose(episodes):
    """Its score is as high as before, for that is relative; the effect stands beside it."""
    spec, model = build("dt.model.d_model=64", "dt.model.n_heads=8")
    plant(model, source=5, target=2)
    attentive(model)
    with torch.no_grad():
        model.blocks[0].attn.W_V[5] *= 1e-3
    context = contexts(spec)
    result = computing.compute(
        CircuitsSpec(untrained=1), model, context, frame_of(context), episodes
    )
    table = result.tables["composition"].query("model == 'trained'")
    best = table.loc[table.score.idxmax()]
    assert (best.source, best.target) == ("L0H5", "L1H2") and best.written < 0.01
    assert not result.claim("heads_compose").verdict.states


def test_composition_is_the_norm_of_the_product():
    _, model = build("dt.model.d_model=32", "dt.model.n_heads=4")
    twin = processed(model, dtype=torch.float64)
    first, second = twin.blocks[0].attn, twin.blocks[1].attn
    table = composition(twin).set_index(["kind", "source", "target"]).score
    written = first.W_V[1] @ first.W_O[1]
    for kind, read in {
        "Q": second.W_Q[2] @ second.W_K[2].T,
        "K": second.W_K[2] @ second.W_Q[2].T,
        "V": second.W_V[2] @ second.W_O[2],
    }.items():
        wanted = (written @ read).norm() / (written.norm() * read.norm())
        assert table[kind, "L0H1", "L1H2"] == pytest.approx(wanted.item())


def test_one_layer_has_no_composition(episodes):
    spec, model = build("dt.model.n_layers=1")
    attentive(model)
    context = contexts(spec)
    result = computing.compute(
        CircuitsSpec(untrained=1), model, context, frame_of(context), episodes
    )
    assert result.established
    assert result.claim("heads_compose").verdict is Verdict.NOT_APPLICABLE


@pytest.mark.parametrize("change", [{"checkpoint": -1}, {"untrained": -1}])
def test_impossible_values_are_named(stage, change):
    assert [name for name, _ in problems(dataclasses.replace(stage, **change))] == list(change)
