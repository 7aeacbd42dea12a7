"""The smallest circuit: exactly the planted one, no statement without one, and slow runs agree."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch

from dtx.analysis.core.answers import Subject
from dtx.analysis.core.patching_spec import Direction
from dtx.analysis.core.result import Result
from dtx.analysis.core.verdicts import Verdict
from dtx.analysis.smallest_circuit import SmallestCircuit
from dtx.analysis.smallest_circuit.compute import compute, verdict
from dtx.analysis.smallest_circuit.controls import controls, matched, same_nodes, strata
from dtx.analysis.smallest_circuit.masked import MaskedRuns
from dtx.analysis.smallest_circuit.measure import find
from dtx.analysis.smallest_circuit.pruning import NOISE, Pruning, balanced, distance, grouped
from dtx.analysis.smallest_circuit.truth import answers
from dtx.config.compose import build_group
from dtx.config.ranges import problems
from dtx.dt.load import untrained_like
from dtx.dt.paths import Edge, outputs, patched
from dtx.pairs.making import make
from dtx.pairs.pair_set import PairSet
from dtx.report import Report, read_metrics
from dtx.running.runner import run
from dtx.statistics import Estimate
from tests.analysis.test_activation_patching import drawn_again, model, only, pairs, stage  # noqa: F401  fixtures
from tests.dt.planted_variants import VARIANTS, planted

FEW = [
    "dt=planted",
    "pairs.dataset=null",
    "analysis.smallest_circuit.edits=[instruction_flip,rtg_zero]",
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
CIRCUITS = [
    ("instruction_flip", 0.892, 3),
    ("instruction_flip", 0.0, 3),
    ("rtg_zero", 0.892, 4),
]


@pytest.fixture(scope="module")
def spec() -> SmallestCircuit:
    return build_group("analysis/smallest_circuit", ["dt=planted", "pairs.dataset=null"])


@pytest.fixture(scope="module")
def wide_gap(spec, tmp_path_factory) -> PairSet:
    """The pairs as they are declared, with the gap of 0.5."""
    out = tmp_path_factory.mktemp("pairs")
    make(spec.pairs).save(out, Report(out))
    return PairSet.read(out)


def a_circuit(pairs, network, edit="swap_targets", direction=Direction.denoise) -> MaskedRuns:  # noqa: F811
    (batch,) = only(pairs, "key/left", "ball/left").batches(network)
    batch = batch.where(np.array(batch.table["edit"] == edit) & batch.kind("edit"))
    return MaskedRuns(network, batch, direction, pairs.min_ld_gap)


def test_the_planted_circuit_is_found_whole_and_alone(store, experiment_of, tmp_path, monkeypatch):
    found = build_group("analysis/smallest_circuit", FEW)
    run(experiment_of(found))
    n = read_metrics(found.path)
    circuit = pd.read_parquet(found.path / "tables" / "circuit.parquet")
    for edit, reward_to_go, size in CIRCUITS:
        for direction in ("denoise", "noise"):
            name = f"smallest_circuit/{edit}_{reward_to_go:g}_{direction}"
            mine = circuit[(circuit["edit"] == edit) & (circuit["direction"] == direction)]
            mine = mine[mine["reward_to_go"] == reward_to_go]
            columns = ["sender", "receiver", "input", "token"]
            assert set(mine[columns].itertuples(index=False, name=None)) == PLANTED[edit]
            assert n[f"{name}_edges"] == size and n[f"{name}_minimality"] == 1
            assert n[f"{name}_kept"] == pytest.approx(1, abs=1e-4)
            assert n[f"{name}_held_out"] == pytest.approx(1, abs=1e-4)
            assert n[f"{name}_needed"] == pytest.approx(size)
            assert n[f"{name}_random"] < 0.5 and n[f"{name}_rest"] == pytest.approx(0, abs=1e-4)
            # CMD of a circuit that keeps everything from its size on: what lies before it.
            assert n[f"{name}_cmd"] < size / n[f"{name}_of"]
    assert n["smallest_circuit/identity_error"] < 1e-4
    result = found.result()
    assert result.established and len(result.checks) == 3 and len(result.controls) == 1
    assert {c.verdict for c in result.claims} == {Verdict.CONFIRMED}
    assert {c.id for c in result.claims} == {
        f"{edit}_{target:g}_{d.value}_circuit".replace(".", "_")
        for edit, target, _ in CIRCUITS
        for d in Direction
    }
    redrawn = drawn_again(found, tmp_path / "copy")
    assert (redrawn / "smallest_circuit.png").stat().st_size > 5000
    kept = MaskedRuns.kept  # a broken one: all circuits keep a bit more, the empty one too
    monkeypatch.setattr(MaskedRuns, "kept", lambda *args: kept(*args) + 0.01)
    one = {"edits": ("instruction_flip",), "directions": (Direction.noise,), "folds": 1}
    broken = dataclasses.replace(found, **one).compute()
    assert not broken.established and "check failed: no edge at all keeps nothing" in broken.summary
    assert {claim.verdict for claim in broken.claims} == {Verdict.NOT_ESTABLISHED}


QUICK = ("rotated", "negative", "redundant", "three_relays_at_once")


@pytest.mark.parametrize(
    "variant",
    [
        v if v in QUICK else pytest.param(v, marks=pytest.mark.slow)
        for v in VARIANTS
        if v != "plain"
    ],
)
def test_harder_circuits_are_exact(spec, wide_gap, variant):
    """Redundant heads, relays over other tokens, a negative head that a two-sided circuit needs."""
    _, network, circuit, _ = planted(variant)
    result = compute(dataclasses.replace(spec, folds=1), network, wide_gap, True)
    assert result.established
    subject = Subject(result=result, model=network.cfg, circuit=circuit, wrong=None, positive=0.1)
    (table,) = answers(subject)
    known = table.dropna(subset=["label"])
    assert (known["label"] == 1).sum() >= 9
    assert (known["score"] == known["label"]).all(), known[known["score"] != known["label"]]
    assert all(c.verdict is Verdict.CONFIRMED for c in result.claims if "decoy" not in c.id)


def test_too_much_is_not_faithful(wide_gap):
    """Without its negative head the circuit keeps 1.33: that is as far from the model as .67."""
    _, network, _, _ = planted("negative")
    (batch,) = wide_gap.batches(network)
    chosen = (batch.table["edit"] == "instruction_flip") & (batch.table["reward_to_go"] == 0)
    runs = MaskedRuns(
        network, batch.where(chosen.to_numpy() & batch.kind("edit")), Direction.denoise, 0.5
    )
    negative = [s.name for s in runs.senders].index("L2 H0")
    mask = runs.cells_nrs.copy()
    mask[:, :, negative] = False
    assert runs.kept([mask])[0] == pytest.approx(4 / 3, abs=1e-3)
    assert distance(runs.kept([mask]))[0] == pytest.approx(1 / 3, abs=1e-3)
    found = Pruning(runs, 0.1).search()
    assert found[-1, :, negative].any() and found.sum() == 5


def test_untrained_models_and_those_without_a_decision_get_no_statement(spec, wide_gap):
    _, network, _, _ = planted("plain")
    for seed in (100, 101, 102):
        result = compute(spec, untrained_like(model(), seed), wide_gap, True)
        assert not result.established
        # One edit of such a model may lie beyond twins', but not its largest beyond their largest.
        assert {c.verdict for c in result.claims} <= {
            Verdict.NOT_APPLICABLE,
            Verdict.NOT_ESTABLISHED,
        }
        if not len(result.tables["circuit"]):
            assert result.problems == ["no edit changes the answer beyond untrained models"]
    decoy = compute(dataclasses.replace(spec, edits=("decoy",)), network, wide_gap, True)
    assert {c.verdict for c in decoy.claims} == {Verdict.NOT_APPLICABLE}
    assert "changes the answer in 0 of 4 layouts" in decoy.finding
    assert next(spec.figures(decoy))[0] == "smallest_circuit"


def test_a_gap_that_untrained_models_have_is_no_question(spec, pairs):  # noqa: F811
    """A model whose answer changes in every layout, but by no more than in untrained ones."""
    network = model()
    gaps = compute(dataclasses.replace(spec, edits=("instruction_flip",)), network, pairs, True)
    (control,) = gaps.controls
    assert not gaps.established and control.problem is not None
    assert {c.verdict for c in gaps.claims} == {Verdict.NOT_APPLICABLE}


def test_a_circuit_that_random_ones_match_is_not_confirmed(spec, wide_gap):
    _, network, _, _ = planted("plain")
    (batch,) = wide_gap.batches(network)
    chosen = (batch.table["edit"] == "instruction_flip") & (batch.table["reward_to_go"] == 0)
    runs = MaskedRuns(
        network, batch.where(chosen.to_numpy() & batch.kind("edit")), Direction.denoise, 0.5
    )
    found = find(spec, runs, True)
    assert verdict(spec, found) is Verdict.CONFIRMED

    def beside(**changes) -> Verdict:
        return verdict(spec, dataclasses.replace(found, **changes))

    def estimate(low: float, value: float, high: float, n: int = 20) -> Estimate:
        return Estimate(value, low, high, n, "made up")

    assert beside(random=estimate(1, 1, 1)) is Verdict.NOT_CONFIRMED
    assert beside(same_nodes=estimate(1, 1, 1)) is Verdict.NOT_CONFIRMED
    assert (
        beside(random=estimate(-1, 0.2, 1)) is Verdict.NOT_DECIDED
    )  # one random circuit is as good
    assert beside(random=estimate(np.nan, np.nan, np.nan, 0)) is Verdict.NOT_DECIDED
    assert beside(held_out=estimate(-0.5, 0.5, 1.5, 4)) is Verdict.NOT_DECIDED
    assert beside(faithfulness=estimate(0.5, 0.5, 0.5, 4)) is Verdict.NOT_CONFIRMED


@pytest.mark.parametrize("direction", list(Direction))
def test_a_circuit_is_the_base_run_along_all_other_edges(pairs, direction):  # noqa: F811
    """The masked run against :func:`dtx.dt.paths.patched`, an edge at a time, on a gated model."""
    network = model(gated_mlp=True, act_fn="relu")
    runs = a_circuit(pairs, network, direction=direction)
    batch, sides = runs.batch, (runs.batch.clean, runs.batch.corrupt)
    source, base = sides if direction is Direction.denoise else sides[::-1]
    rng = np.random.default_rng(0)
    keep = runs.cells_nrs & (rng.random(runs.cells_nrs.shape) < 0.6)
    found = runs.kept([keep, runs.cells_nrs, np.zeros_like(keep)])
    with torch.inference_mode():
        _, cache = network.run_with_cache(base)
        rest = [
            (Edge(sender, receiver), torch.from_numpy(~keep[:, i, j]).expand(len(batch), -1))
            for i, receiver in enumerate(runs.receivers)
            for j, sender in enumerate(runs.senders)
            if Edge(sender, receiver).exists
        ]
        logits = patched(network, source, outputs(network, dict(cache)), rest)
        ends = [batch.difference(network(c)[:, -1]) for c in (source, base)]
    slow = (batch.difference(logits) - ends[1]) / (ends[0] - ends[1])
    assert found[0] == pytest.approx(slow.numpy(), abs=1e-4)
    assert not np.allclose(found[0], 1, atol=0.05)  # something was left out
    assert found[1] == pytest.approx(1, abs=1e-4) and found[2] == pytest.approx(0, abs=1e-4)


def test_removals_together_are_as_alone_and_slopes_are_derivatives(pairs):  # noqa: F811
    network = model()
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    runs = a_circuit(pairs, network)
    rng = np.random.default_rng(0)
    mask = runs.cells_nrs & (rng.random(runs.cells_nrs.shape) < 0.3)
    cells = np.argwhere(mask)
    blocks = [cells[rng.choice(len(cells), 3, replace=False)] for _ in range(20)]
    masks = np.repeat(mask[None], len(blocks), 0)
    for one, block in zip(masks, blocks, strict=True):
        one[tuple(block.T)] = False
    assert runs.kept_without(mask, blocks) == pytest.approx(runs.kept(masks), abs=1e-5)
    kept, lost = runs.slopes(mask)
    assert kept == pytest.approx(runs.kept([mask])[0], abs=1e-5)
    row, step = torch.arange(len(runs.span)), 0.05
    for place in np.argsort(np.abs(lost).max(0))[-5:]:
        ends = []
        for factor in (1 + step, 1 - step):
            gates = torch.from_numpy(mask).double().float().expand(len(row), -1, -1, -1).clone()
            gates[(slice(None), *cells[place])] = factor
            with torch.inference_mode():
                ends.append(runs._share(runs._ld(runs._plan(mask), gates, row), row))
        assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(lost[:, place], rel=0.05, abs=1e-3)


def test_a_part_of_the_pairs_is_what_it_is_in_all(pairs):  # noqa: F811
    runs = a_circuit(pairs, model())
    mask = runs.cells_nrs & (np.random.default_rng(0).random(runs.cells_nrs.shape) < 0.5)
    apart = [
        runs.where(np.arange(len(runs.span)) == i).kept([mask])[0, 0] for i in range(len(runs.span))
    ]
    assert np.array(apart) == pytest.approx(runs.kept([mask])[0], abs=1e-4)


def test_none_of_the_edges_can_go_alone_and_what_does_nothing_is_out(pairs):  # noqa: F811
    runs = a_circuit(pairs, model())
    search = Pruning(runs, 0.1)
    mask = search.search()
    cells = np.argwhere(mask)
    assert 0 < len(cells) < runs.cells_nrs.sum() / 4
    assert distance(runs.kept([mask]))[0] <= 0.1
    without = runs.kept_without(mask, [cells[i : i + 1] for i in range(len(cells))])
    assert (distance(without) > 0.1 - 1e-6).all()
    assert (np.abs(without - runs.kept([mask])).max(1) > NOISE).all()
    order = search.order()
    assert len(np.unique(order, axis=0)) == len(order) == runs.cells_nrs.sum()
    assert {tuple(c) for c in order[: len(cells)]} == {tuple(c) for c in cells}
    assert np.array_equal(search.mask_nrs, mask)


def test_cells_go_together_if_their_sum_stays_near_nothing():
    lost = np.array([[0.05, -0.05, 0.06, 0.01, 0.5]])
    assert balanced(lost, np.array([1.0]), 9, 0.02).tolist() == [3]
    assert set(balanced(lost, np.array([1.0]), 9, 0.061)) == {0, 1, 3}
    assert balanced(lost, np.array([1.0]), 2, 0.061).tolist() == [3, 0]
    # One that brings an overshooting circuit back may always go.
    assert balanced(lost, np.array([1.5]), 9, 0.0).tolist() == [3, 0, 2, 4]
    assert [len(b) for b in grouped(np.array([[0, 1, 2], [1, 1, 2], [0, 1, 3]]), (1, 2))] == [2, 1]


def test_random_circuits_have_the_structure_and_are_other_ones(pairs):  # noqa: F811
    runs = a_circuit(pairs, model())
    mask = Pruning(runs, 0.1).search()
    kinds = strata(runs)[0]

    def counts(circuit: np.ndarray) -> list[int]:
        cells = np.argwhere(circuit)
        return np.bincount(kinds[cells[:, 1], cells[:, 2]], minlength=kinds.max() + 1).tolist()

    drawn = list(matched(mask, runs.cells_nrs, kinds, 5, 0))
    assert all(counts(one) == counts(mask) and not (one & ~runs.cells_nrs).any() for one in drawn)
    near = same_nodes(runs, mask)
    assert (mask & ~near).sum() == 0 and near.sum() < runs.cells_nrs.sum()
    for one in controls(runs, mask, runs.cells_nrs, 5, 0):
        assert one.sum() == mask.sum() and not np.array_equal(one, mask)
    # The whole model leaves no choice.
    assert controls(runs, runs.cells_nrs, runs.cells_nrs, 5, 0) == []


def test_wrong_settings_are_explained(spec):
    wrong = dataclasses.replace(
        spec,
        edits=("flip",),
        directions=(Direction.noise, Direction.noise),
        faithfulness=1.2,
        folds=0,
        draws=3,
        untrained=0,
        tolerance=0.0,
        seed=-1,
    )
    fields = {field for field, _ in [*problems(wrong), *wrong.check()]}
    assert fields == {
        *("edits", "directions", "faithfulness", "folds", "draws", "untrained", "tolerance", "seed")
    }


def test_a_result_is_read_as_it_was_written(spec, wide_gap, tmp_path):
    _, network, _, _ = planted("plain")
    few = dataclasses.replace(spec, edits=("swap_targets",), directions=(Direction.denoise,))
    result = compute(few, network, wide_gap, True)
    result.write(tmp_path, "smallest_circuit")
    again = Result.read(tmp_path)
    assert again.established and again.metrics == result.metrics
    assert {"share", "n", "interval"} <= set(again.tables["curve"])
    held_out = again.tables["summary"]["held_out_interval"]
    assert held_out.str.startswith("t over 4 layouts").all()
