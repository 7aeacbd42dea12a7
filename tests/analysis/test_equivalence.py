import dataclasses

import pandas as pd
import pytest
import torch

from dtx.analysis.core.inputs import Inputs
from dtx.analysis.equivalence import Equivalence
from dtx.analysis.equivalence import compute as equivalence
from dtx.analysis.equivalence.compute import CHAINS, with_random_norms, wrong_fold
from dtx.analysis.equivalence.spec import READ_BACK, WRONG, EquivalenceSpec
from dtx.config.ranges import problems
from dtx.dt.processing import copy_of, processed
from dtx.report import read_metrics
from dtx.running.runner import run
from tests.dt.test_model import VARIANTS, build, contexts
from tests.dt.test_parity import context_of, network, windows  # noqa: F401  # fixtures
from tests.dt.test_processing import published, scramble


@pytest.fixture
def stage(env, rollouts, tiny) -> Equivalence:
    return Equivalence(
        windows=Inputs(env=env, dataset=rollouts, targets=(0.0, 0.9), count=8, seed=0),
        dt=tiny,
        checkpoint=None,
        tolerance=1e-5,
        seed=0,
    )


@pytest.mark.parametrize("variant", ["plain", "gated relu"])
def test_the_control_is_wrong_and_the_given_model_is_not_touched(variant):
    spec, model = build(*VARIANTS[variant])
    scramble(model)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with torch.no_grad():
        context = contexts(spec)
        logits = model(context)
        assert (wrong_fold(model, torch.float32)(context) - logits).abs().max() > 0.01
        assert not torch.allclose(with_random_norms(model, 0)(context), logits)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


@published
def test_the_older_tools_fold_is_the_control(network, windows):  # noqa: F811
    """Leaving out W_gate gives what the older app analysed, which is not the published network."""
    with torch.no_grad():
        folded = wrong_fold(network, torch.float32)(context_of(windows)).numpy()
    older = windows["action_logits_app_folded"]
    assert abs(folded - older).max() < 1e-5
    assert abs(older - windows["action_logits"]).max() > 0.1


def test_stage_compares_all_rewritings_and_sees_the_control(store, experiment_of, stage):
    run(experiment_of(stage))
    numbers = read_metrics(stage.path)
    assert numbers["equivalence/equivalent"] == 1 and numbers["equivalence/control_is_seen"] == 1
    assert numbers["equivalence/max_logit_diff"] < 1e-12
    assert numbers["equivalence/wrong_fold_diff"] > 1e-3
    table = pd.read_parquet(stage.path / "tables" / "differences.parquet")
    assert set(table.rewriting) == {*CHAINS, READ_BACK, WRONG}
    assert (table[table.rewriting == READ_BACK].max_logit_diff == 0).all()
    result = stage.result()
    assert result.established and len(result.checks) == 2 * (len(CHAINS) + 1)
    assert [control.holds for control in result.controls] == [True]
    assert stage.summary().startswith("largest change of a logit")
    assert (stage.path / "figures" / "equivalence.png").stat().st_size > 10_000


def scaled(model, steps, dtype):
    """A rewriting that is wrong: logits grow threefold."""
    twin = processed(model, steps, dtype)
    with torch.no_grad():
        twin.unembed.W_U *= 3
    return twin


def test_a_broken_instrument_is_not_established(monkeypatch):
    """A large change of the logits fails its check, whatever else is found."""
    spec, model = build(*VARIANTS["plain"])
    scramble(model)
    settings = EquivalenceSpec(tolerance=1e-5, seed=0)
    inputs = {"decision": contexts(spec)}
    assert equivalence.compute(settings, model, inputs).established
    monkeypatch.setattr(equivalence, "processed", scaled)
    result = equivalence.compute(settings, model, inputs)
    assert result.metrics["identity_error"] > 1 and result.metrics["equivalent"] == 0
    assert not result.established
    assert result.summary.startswith("not established (check failed: logits after: fold LayerNorm")


def test_a_control_that_is_not_seen_is_not_established(monkeypatch):
    spec, model = build(*VARIANTS["plain"])
    inputs = {"decision": contexts(spec)}
    monkeypatch.setattr(equivalence, "wrong_fold", lambda model, dtype: copy_of(model, dtype))
    result = equivalence.compute(EquivalenceSpec(tolerance=1e-5, seed=0), model, inputs)
    assert all(check.holds for check in result.checks) and not result.established
    assert "control failed" in result.summary


def test_a_model_without_layer_norm_has_no_control():
    spec, model = build("dt.model.layer_norm=false")
    inputs = {"decision": contexts(spec)}
    result = equivalence.compute(EquivalenceSpec(tolerance=1e-5, seed=0), model, inputs)
    assert result.established and not result.controls
    assert result.metrics["wrong_fold_diff"] is None


@pytest.mark.parametrize("change", [{"tolerance": 0.0}, {"seed": -1}, {"checkpoint": -2}])
def test_impossible_values_are_named(stage, change):
    assert [name for name, _ in problems(dataclasses.replace(stage, **change))] == list(change)
