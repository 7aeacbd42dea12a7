import dataclasses

import pandas as pd
import pytest
import torch

from dtx.analysis.core.inputs import Inputs
from dtx.analysis.equivalence import Equivalence
from dtx.analysis.equivalence.compute import CHAINS, READ_BACK, WRONG, with_random_norms, wrong_fold
from dtx.report import read_metrics
from dtx.run.runner import run
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
    assert numbers["health/equivalent"] == 1 and numbers["health/control_is_seen"] == 1
    assert numbers["health/max_logit_diff"] < 1e-12
    assert numbers["health/wrong_fold_diff"] > 1e-3
    table = pd.read_parquet(stage.path / "tables" / "differences.parquet")
    assert set(table.rewriting) == {*CHAINS, READ_BACK, WRONG}
    assert (table[table.rewriting == READ_BACK].max_logit_diff == 0).all()
    assert stage.summary().startswith("processed weights are the same model")
    assert (stage.path / "figures" / "equivalence.png").stat().st_size > 10_000


@pytest.mark.parametrize("change", [{"tolerance": 0.0}, {"seed": -1}, {"checkpoint": -2}])
def test_impossible_values_are_named(stage, change):
    assert [name for name, _ in dataclasses.replace(stage, **change).check()] == list(change)
