"""Path patching: the batched sweep is the exact definition, and known circuits come out."""

from __future__ import annotations

import dataclasses
import functools
import json
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from dtx.analysis.core.patching import PairRuns
from dtx.analysis.core.patching_spec import Direction
from dtx.analysis.core.result import Result, Verdict
from dtx.analysis.path_patching import PathPatching
from dtx.analysis.path_patching.compute import compute
from dtx.analysis.path_patching.identities import IDENTITIES
from dtx.analysis.path_patching.spec import EdgeTokens
from dtx.analysis.path_patching.sweep import EdgeSweep, wanted
from dtx.config.compose import build_group
from dtx.config.ranges import problems
from dtx.dt.circuit import Circuit, CircuitNode, positions
from dtx.dt.paths import matters, outputs, patched
from dtx.pairs.making import make
from dtx.pairs.pair_set import PairSet
from dtx.report import Report, read_metrics
from tests.analysis.test_activation_patching import Random, drawn_again, model, only
from tests.pages.reading import Page

FLIPS = {"instruction_flip": "instruction", "swap_targets": "target", "rtg_zero": "reward_to_go"}


@pytest.fixture(scope="module")
def stage() -> PathPatching:
    return build_group("analysis/path_patching", ["pairs.dataset=null"])


@pytest.fixture(scope="module")
def pairs(stage, tmp_path_factory) -> PairSet:
    out = tmp_path_factory.mktemp("pairs")
    make(with_gap(stage, 0.02).pairs).save(out, Report(out))
    return PairSet.read(out)


def with_gap(stage: PathPatching, gap: float) -> PathPatching:
    checks = dataclasses.replace(stage.pairs.checks, min_ld_gap=gap)
    return dataclasses.replace(stage, pairs=dataclasses.replace(stage.pairs, checks=checks))


# --- the sweep ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "direction"),
    [
        ({"n_layers": 3}, Direction.denoise),
        ({"n_layers": 3, "gated_mlp": True, "act_fn": "relu"}, Direction.noise),
        ({"n_layers": 2, "normalization_type": None}, Direction.denoise),
        ({"n_layers": 2, "left_padding": True}, Direction.denoise),
        ({"n_layers": 1}, Direction.noise),
    ],
    ids=str,
)
@torch.inference_mode()
def test_the_sweep_is_one_plain_forward_pass_an_edge(pairs, changes, direction):
    padding = changes.get("left_padding", False)
    network = model(**{k: v for k, v in changes.items() if k != "left_padding"})
    network.cfg.left_padding = padding
    few = only(pairs, "key/left")  # its edits, its null pairs and its donors
    (batch,) = few.batches(network)
    runs = PairRuns(network, batch, direction, 0.02, wanted(network.cfg.n_layers))
    which = np.ones(len(batch), bool)
    which[3] = False
    sweep = EdgeSweep(network, runs, which, 13, True).run()  # rows in parts, too
    assert not sweep.change[..., 3].any()
    which = np.flatnonzero(which)
    source = outputs(network, runs.source)
    base = runs.patched_context(np.arange(len(batch)))
    cells = [(i, m) for i in range(len(sweep.edges)) for m in range(sweep.n)]
    moved = [cell for cell in cells if np.abs(sweep.change[cell]).max() > 1e-4]
    assert len(moved) > 30
    rng = np.random.default_rng(0)
    chosen = [moved[i] for i in rng.choice(len(moved), 25, replace=False)]
    chosen += [cells[i] for i in rng.choice(len(cells), 15, replace=False)]
    chosen += [(i, sweep.n) for i in range(0, len(sweep.edges), 7)]
    for i, place in chosen:
        mask = torch.zeros(batch.changed.shape, dtype=torch.bool)
        mask[:, slice(None) if place == sweep.n else place] = True
        ld = batch.difference(patched(network, base, source, [(sweep.edges[i], mask)]))
        expected = ld.double().numpy() - runs.base_ld
        np.testing.assert_allclose(
            sweep.change[i, place][which], expected[which], atol=1e-4, rtol=1e-4
        )
    for i, m in cells:
        if not matters(network.cfg, sweep.edges[i], m, sweep.n):
            assert not sweep.change[i, m].any()
    null = batch.kind("null")
    assert null.any() and np.abs(sweep.change[..., null]).max() < 1e-5


def test_rows_come_sender_by_sender_and_stop_when_told(pairs):
    """With weights that want gradients, outside of inference mode."""
    network = model(n_layers=2)
    (batch,) = only(pairs, "key/left").batches(network)
    runs = PairRuns(network, batch, Direction.denoise, 0.02, wanted(2))
    which = ~batch.kind("donor_clean")
    whole = EdgeSweep(network, runs, which, 64, True).run()
    asked = []
    parts = EdgeSweep(network, runs, which, 64, True, lambda: bool(asked.append(1)))
    seen = []
    for share, edges in parts.parts():
        assert len({parts.edges[i].sender for i in edges}) == 1
        np.testing.assert_array_equal(parts.change[edges], whole.change[edges])
        seen += edges
        assert share == pytest.approx(len(seen) / len(parts.edges))
    assert sorted(seen) == list(range(len(parts.edges)))
    table = whole.table(seen)
    rows = int(which.sum())
    cells = sum(matters(network.cfg, e, m, whole.n) for e in whole.edges for m in range(whole.n))
    assert len(table) == rows * (cells + len(seen)) and set(table["kind"]) == set(
        batch.table["kind"]
    ) - {"donor_clean"}
    at = table[
        (table["sender"] == "L0H1") & (table["receiver"] == "L1H0") & (table["input"] == "k")
    ]
    i = next(i for i, e in enumerate(whole.edges) if (e.sender.name, e.receiver.name) == ("L0H1", "L1H0")
             and e.receiver.input == "k")  # fmt: skip
    last = at[at["token"] == "all"]
    np.testing.assert_allclose(last["change"], whole.change[i, -1, which], atol=1e-12)
    third = at[at["position"] == 3]
    assert set(third["token"]) == {batch.names[3]}
    np.testing.assert_allclose(third["change"], whole.change[i, 3, which], atol=1e-12)
    left = iter(range(len(asked) // 2))
    early = EdgeSweep(network, runs, which, 64, True, lambda: next(left, None) is None)
    shares = [share for share, _ in early.parts()]
    assert len(shares) > 0 and shares[-1] < 1
    together = EdgeSweep(network, runs, which, 64, False).run()
    assert set(together.table(seen)["token"]) == {"all"}


@pytest.mark.parametrize("changes", [{}, {"gated_mlp": True, "act_fn": "relu"}])
def test_identities_hold_and_effects_have_intervals(stage, pairs, changes, tmp_path):
    found = compute(stage, model(**changes), pairs)
    assert found.metrics["identity_error"] < 2e-3 and found.metrics["null_change"] < 1e-5
    checks = found.tables["identities"]
    assert set(checks["identity"]) == {"sweep", "everything", "nothing", "node", "no edge"}
    assert set(checks["identity"]) == set(IDENTITIES) and len(found.checks) == 6
    assert checks[checks["identity"] == "node"]["expected"].abs().max() > 0.05
    table = found.tables["edges"].dropna(subset=["low"])
    assert set(table["kind"]) == {"edit", "donor_clean", "donor_corrupt"}
    assert "all" in set(table["token"]) and set(table["direction"]) == {"denoise"}
    assert ((table["low"] <= table["rho"] + 1e-9) & (table["rho"] <= table["high"] + 1e-9)).all()
    important = found.tables["important"]
    assert important["above"].between(0, 1).all() and important.iloc[0]["above"] > 0.5
    assert important[["expected_0", "expected_1"]].notna().all(axis=None)
    assert len(important.groupby(["edit", "reward_to_go"])) >= 2
    found.write(tmp_path, "path_patching")
    timing = json.loads((tmp_path / "timing.jsonl").read_text())
    assert timing["path_patching/patches_per_second"] > 0


@pytest.mark.parametrize(
    ("shift", "words"),
    [
        (0.01, "check failed: patching within a null pair"),
        (np.nan, "check not measured: the batched"),
    ],
)
def test_a_broken_sweep_establishes_nothing(stage, pairs, monkeypatch, shift, words):
    put = EdgeSweep._put
    monkeypatch.setattr(
        EdgeSweep, "_put", lambda self, e, s, rows, ld: put(self, e, s, rows, ld + shift)
    )
    quick = dataclasses.replace(stage, tokens=EdgeTokens.together, edits=("swap_targets",))
    broken = compute(quick, model(), only(pairs, "key/left"))
    assert not broken.established and words in broken.summary
    assert not any(claim.verdict.states for claim in broken.claims)


def test_all_tokens_together_without_each(stage, pairs):
    quick = dataclasses.replace(stage, tokens=EdgeTokens.together, edits=("swap_targets",))
    few = only(pairs, "key/left")
    both = [
        compute(one, model(), few).tables["edges"].query("kind == 'edit'")
        for one in (quick, dataclasses.replace(quick, tokens=EdgeTokens.each))
    ]
    assert set(both[0]["token"]) == {"all"} and set(both[0]["edit"]) == {"swap_targets"}
    together = both[1][both[1]["token"] == "all"]
    np.testing.assert_allclose(both[0]["rho"], together["rho"], atol=1e-5)


def test_pairs_closer_than_the_gap_are_missing_not_numbers(stage, pairs):
    wide = dataclasses.replace(pairs, about={**pairs.about, "min_ld_gap": 1e6})
    found = compute(stage, model(), only(wide, "key/left"))
    assert not len(found.tables["edges"]) and not len(found.tables["important"])
    assert list(found.reasons()) == [
        "no edit changes the logit difference by min_ld_gap; not analysed"
    ]
    assert len(found.checks) == 1
    assert {claim.verdict for claim in found.claims} == {Verdict.NOT_APPLICABLE}


# --- known circuits ----------------------------------------------------------------------------------

PLANTED = {
    "plain": [],
    "layer_norm": ["dt.layer_norm=true", "dt.rotation=true"],
    "superposed": ["dt.dimensions=12"],
    "backup": ["dt.backup_head=true"],
    "negative": ["dt.negative_head=0.25"],
    "distractors": ["dt.distractor_heads=9"],
}


@functools.cache
def planted(variant: str) -> tuple[Result, Circuit]:
    from dtx.dt.model import load

    dt = build_group("dt/planted", PLANTED[variant])
    stage = build_group("analysis/path_patching", ["pairs.dataset=null"])
    stage = dataclasses.replace(stage, edits=tuple(FLIPS))
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        dt.run(out)
        make(stage.pairs).save(out, Report(out))
        found = compute(stage, load(out), PairSet.read(out))
        return found, Circuit.read(out)


def at(circuit: Circuit, role: str) -> set[str]:
    """Names of the tokens of a role, in the pairs' windows of five states."""
    return {f"{'RSA'[i % 3]}{i // 3 + 1}" for i in positions(5)[role]}


def named(node: CircuitNode) -> str:
    if node.hook in ("hook_embed", "unembed"):
        return "embed" if node.hook == "hook_embed" else "logits"
    layer = node.hook.split(".")[1]
    return f"L{layer} MLP" if node.head is None else f"L{layer}H{node.head}"


def known(circuit: Circuit, flip: str) -> dict[tuple[str, str, str, str], str]:
    """Variable of each edge that a flip of one variable moves, by sender, receiver, input and token.

    ``steers`` says where heads look: the same in both runs. ``backup`` is silent while the main head speaks.
    """
    found = {}
    for edge in circuit.edges:
        if edge.variable in (flip, "turn"):
            for token in at(circuit, edge.sender.at):
                key = named(edge.sender), named(edge.receiver), edge.input, token
                found[key] = edge.variable
    return found


def effects(found: Result, edit: str) -> pd.Series:
    """Mean rho of every cell of an edit over its pairs."""
    table = found.tables["edges"]
    mine = table[
        (table["edit"] == edit) & (table["kind"] == "edit") & (table["position"] >= 0)
    ].astype(dict.fromkeys(("sender", "receiver", "input", "token"), str))
    return mine.groupby(["sender", "receiver", "input", "token"])["rho"].mean()


@pytest.mark.parametrize("variant", PLANTED)
@pytest.mark.parametrize("edit", FLIPS)
def test_precisely_the_planted_edges_come_out(variant, edit):
    found, circuit = planted(variant)
    assert found.metrics["identity_error"] < circuit.tolerance
    assert found.metrics["null_change"] < 1e-4
    rho, wanted_edges = effects(found, edit), known(circuit, FLIPS[edit])
    assert len(wanted_edges) >= 2
    share = circuit.variant["negative_head"]
    deciding = f"L{circuit.neurons[0].layer} MLP"
    tolerance = max(circuit.tolerance, 1e-3)
    for key, value in rho.items():
        sender, receiver, *_ = key  # type: ignore[misc]
        expected = 1.0 if key in wanted_edges else 0.0
        if share and key in wanted_edges and wanted_edges[key] == "turn":
            # The deciding MLP's turn in full, and what the negative head takes back of it.
            full = sender == deciding and receiver == "logits"
            expected = 1 / (1 - share) if full else -share / (1 - share)
        assert value == pytest.approx(expected, abs=tolerance), key
    assert set(wanted_edges) <= set(rho.index)
    best = found.tables["important"]
    best = best[best["edit"] == edit].head(len(wanted_edges))
    listed = {tuple(map(str, row)) for row in best[["sender", "receiver", "input", "token"]].values}
    assert listed == set(wanted_edges)


@pytest.mark.slow
def test_the_trained_circuit_is_told_from_all_other_edges(tmp_path):
    from dtx.dt.model import load

    dt = build_group("dt/interchange", [])
    (tmp_path / "pairs").mkdir()
    dt.run(tmp_path)
    scores = score(tmp_path, load(tmp_path))
    assert set(scores) == set(FLIPS.values()) and min(scores.values()) >= 0.95, scores


def score(folder: Path, network) -> dict[str, float]:
    """AUROC of |rho| for the circuit's edges, by flip.

    Which MLPs compute the turn is learnt, so what they send is not scored, and a sender's edges to the MLPs
    at a token count as one edge: the strongest. So do those of the equal reward-to-go tokens into a head.
    """
    stage = build_group("analysis/path_patching", ["pairs.dataset=null"])
    stage = dataclasses.replace(stage, edits=tuple(FLIPS))
    out = folder / "pairs"
    make(stage.pairs).save(out, Report(out))
    found, circuit = compute(stage, network, PairSet.read(out)), Circuit.read(folder)
    assert found.metrics["identity_error"] < 1e-3

    def joined(key: tuple[str, str, str, str]) -> tuple[str, str, str, str]:
        sender, receiver, kind, token = key
        return sender, "MLP" if kind == "mlp" else receiver, kind, "R" if token[0] == "R" else token

    scores = {}
    for edit, flip in FLIPS.items():
        rho = effects(found, edit).abs()
        rho = rho[["MLP" not in key[0] for key in rho.index]]  # type: ignore[index]
        true = {joined(key) for key in known(circuit, flip) if "MLP" not in key[0]}
        size: dict[tuple[str, str, str, str], float] = {}
        for key, value in rho.items():
            size[joined(key)] = max(value, size.get(joined(key), 0.0))  # type: ignore[arg-type]
        assert true and true <= set(size)
        own = np.array([value for key, value in size.items() if key in true])
        other = np.array([value for key, value in size.items() if key not in true])
        scores[flip] = float((own[:, None] > other).mean() + 0.5 * (own[:, None] == other).mean())
    return scores


# --- the stage ---------------------------------------------------------------------------------------


def test_the_stage_writes_tables_figures_a_page_and_claims(stage, store, experiment_of, tmp_path):
    from dtx.running.runner import run

    whole = with_gap(stage, 0.02)
    source = dataclasses.replace(whole.pairs.source, reward_to_go=(0.9,))
    pairs = dataclasses.replace(whole.pairs, source=source)
    whole = dataclasses.replace(
        whole, dt=Random(), pairs=pairs, edits=("swap_targets", "rtg_zero"), tolerance=1e-2
    )
    strict = dataclasses.replace(whole, tolerance=1e-12)
    run(experiment_of(whole, strict))
    n = read_metrics(whole.path)
    assert n["path_patching/identity_error"] < 1e-2 and n["path_patching/null_change"] < 1e-5
    edges = pd.read_parquet(whole.path / "tables" / "edges.parquet")
    assert set(edges["edit"]) == {"swap_targets", "rtg_zero"}
    figures = whole.path / "figures"
    assert (figures / "paths_swap_targets.png").stat().st_size > 5000
    page = (figures / "paths.html").read_text()
    read = Page(page)
    assert read.problems == [] and read.external == [] and '"groups"' in read.scripts[-1]
    # Random weights: no edit moves a decision, so there is nothing to say of them.
    assert "swap_targets: edit changes the logit difference by" in whole.summary()
    assert not any(claim.verdict.states for claim in whole.result().claims)
    redrawn = drawn_again(whole, tmp_path / "copy")
    assert (redrawn / "paths_swap_targets.png").stat().st_size > 5000
    assert (redrawn / "paths.html").read_text() == page
    assert strict.summary().startswith("not established (check failed: ")
    claims = strict.result().claims
    assert claims and not any(claim.verdict.states for claim in claims)


def test_wrong_settings_are_explained(stage):
    wrong = dataclasses.replace(
        stage, edits=("flip",), tolerance=0.0, at_once=0, seed=-1, checkpoint=-1
    )
    named = {field for field, _ in [*problems(wrong), *wrong.check()]}
    assert named == {"edits", "tolerance", "at_once", "seed", "checkpoint"}
    assert [f for f, _ in problems(dataclasses.replace(stage, edits=()))] == ["edits"]
