"""The smallest circuit: exactly the planted one, and a slow run on the same edges agrees."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch

from dtx.analysis.core.result import Verdict
from dtx.analysis.path_patching.spec import EdgeTokens
from dtx.analysis.smallest_circuit import SmallestCircuit
from dtx.analysis.smallest_circuit.circuits import Runs
from dtx.analysis.smallest_circuit.compute import Smallest, _claims, _ranked
from dtx.config.compose import build_group
from dtx.config.ranges import problems
from dtx.dt.paths import Edge, outputs, patched
from dtx.report import read_metrics
from dtx.run.runner import run
from tests.analysis.test_activation_patching import drawn_again, model, only, pairs, stage  # noqa: F401  fixtures

FEW = [
    "dt=planted",
    "pairs.dataset=null",
    "analysis.smallest_circuit.draws=3",
    "analysis.smallest_circuit.resamples=20",
    "analysis.smallest_circuit.paths.resamples=20",
    "analysis.smallest_circuit.paths.edits=[instruction_flip,rtg_zero]",
]
PLANTED = {  # of dtx/dt/planted/truth.py, along which the two runs differ
    "instruction_flip": {
        ("embed", "L1 H0", "v", "S1"),
        ("L1 H0", "L1 MLP", "mlp", "S5"),
        ("L1 MLP", "logits", "logits", "S5"),
    },
    "rtg_zero": {
        ("embed", "L0 H0", "v", "R5"),
        ("L0 H0", "L0 MLP", "mlp", "S5"),
        ("L0 MLP", "L1 MLP", "mlp", "S5"),
        ("L1 MLP", "logits", "logits", "S5"),
    },
}


def test_the_planted_circuit_is_found_whole_and_alone(store, experiment_of, tmp_path, monkeypatch):
    found = build_group("analysis/smallest_circuit", FEW)
    run(experiment_of(found))
    n = read_metrics(found.path)
    circuit = pd.read_parquet(found.path / "tables" / "circuit.parquet")
    for edit, edges in PLANTED.items():
        mine = circuit[circuit["edit"] == edit]
        columns = ["sender", "receiver", "input", "token"]
        assert set(mine[columns].itertuples(index=False, name=None)) == edges
        assert n[f"smallest_circuit/{edit}_faithfulness"] == pytest.approx(1, abs=1e-4)
        assert n[f"smallest_circuit/{edit}_random_max"] < 0.5
    assert n["smallest_circuit/identity_error"] < 1e-4
    assert found.summary().startswith("instruction_flip: 3 of 171 edges")
    result = found.result()
    assert result.established and len(result.checks) == 2
    verdicts = {claim.id: claim.verdict for claim in result.claims}
    assert verdicts == {f"{edit}_circuit": Verdict.CONFIRMED for edit in PLANTED}
    redrawn = drawn_again(found, tmp_path / "copy")
    assert (redrawn / "smallest_circuit.png").stat().st_size > 5000
    kept = Runs.faithfulness  # a broken one: all circuits keep a bit more, the empty one too
    monkeypatch.setattr(Runs, "faithfulness", lambda *args: kept(*args) + 0.01)
    broken = found.compute()
    assert not broken.established and "check failed: no edge at all keeps nothing" in broken.summary
    assert {claim.verdict for claim in broken.claims} == {Verdict.NOT_ESTABLISHED}


def test_a_circuit_that_random_ones_match_is_not_confirmed():
    spec = build_group("analysis/smallest_circuit", FEW)
    (claim,) = _claims(spec, {"flip": Smallest(5, 0.95, 0.9, 100), "decoy": None})
    assert claim.id == "flip_circuit" and claim.verdict is Verdict.NOT_CONFIRMED
    (claim,) = _claims(spec, {"flip": Smallest(5, 0.95, 0.89, 100)})
    assert claim.verdict is Verdict.CONFIRMED


def test_a_circuit_is_the_corrupt_run_along_all_other_edges(pairs):  # noqa: F811
    """The masked run against :func:`dtx.dt.paths.patched`, an edge at a time, on a gated model."""
    network = model(gated_mlp=True, act_fn="relu")
    (batch,) = only(pairs, "key/left", "ball/left").batches(network)
    batch = batch.where(np.array(batch.table["edit"] == "swap_targets") & batch.kind("edit"))
    with torch.inference_mode():
        runs = Runs(network, batch, 0.0)
        rng = np.random.default_rng(0)
        keep = runs.cells_rsn & (rng.random(runs.cells_rsn.shape) < 0.6)
        found = runs.faithfulness(np.stack([keep, runs.cells_rsn, np.zeros_like(keep)]))
        _, cache = network.run_with_cache(batch.corrupt)
        rest = [
            (Edge(sender, receiver), torch.from_numpy(~keep[i, j]).expand(len(batch), -1))
            for i, receiver in enumerate(runs.receivers)
            for j, sender in enumerate(runs.senders)
            if Edge(sender, receiver).exists
        ]
        logits = patched(network, batch.clean, outputs(network, dict(cache)), rest)
        ends = [batch.difference(network(c)[:, -1]) for c in (batch.clean, batch.corrupt)]
    slow = (batch.difference(logits) - ends[1]) / (ends[0] - ends[1])
    assert found[0] == pytest.approx(slow.numpy(), abs=1e-4)
    assert not np.allclose(found[0], 1, atol=0.05)  # something was left out
    assert found[1] == pytest.approx(1, abs=1e-4) and found[2] == pytest.approx(0, abs=1e-4)


def test_runs_that_do_not_differ_have_no_circuit(store, experiment_of):
    found = build_group("analysis/smallest_circuit", [*FEW, "pairs.checks.min_ld_gap=1e6"])
    run(experiment_of(found))
    result = found.result()
    first, *others = result.reasons()
    assert first == "in no pair do the two runs differ by min_ld_gap"
    assert len(others) == 2 and all(reason.startswith("check not measured") for reason in others)
    assert found.summary().startswith("not established (in no pair do the two runs differ by")
    assert not result.claims and (found.path / "figures" / "smallest_circuit.png").exists()


def test_a_ranking_of_longer_windows_ranks_their_first_tokens(pairs):  # noqa: F811
    """Pairs of several lengths: the circuit is of the commonest one, the ranking of all."""
    (batch,) = only(pairs, "key/left").batches(network := model())
    batch = batch.where(np.array(batch.table["edit"] == "swap_targets") & batch.kind("edit"))
    with torch.inference_mode():
        runs = Runs(network, batch, 0.0)
    receiver, sender = runs.receivers[-1], runs.senders[0]
    n = runs.cells_rsn.shape[-1]
    row = {"sender": sender.name, "receiver": receiver.name, "input": receiver.input}
    effects = pd.DataFrame([{**row, "position": m, "rho": 1.0} for m in (n - 1, n + 2)])
    assert _ranked(runs, effects)[0].tolist() == [len(runs.receivers) - 1, 0, n - 1]


def test_wrong_settings_are_explained():
    right: SmallestCircuit = build_group("analysis/smallest_circuit", FEW)
    paths = dataclasses.replace(right.paths, tokens=EdgeTokens.together)
    wrong = dataclasses.replace(
        right, paths=paths, faithfulness=1.2, draws=0, tolerance=0.0, resamples=0, seed=-1
    )
    fields = {"paths.tokens", "faithfulness", "draws", "tolerance", "resamples", "seed"}
    assert {field for field, _ in [*problems(wrong), *wrong.check()]} == fields
