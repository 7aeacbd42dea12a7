"""Activation patching: exact identities, one slow patch at a time, the published model's figures."""

from __future__ import annotations

import dataclasses
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from dtx.analysis.activation_patching import ActivationPatching
from dtx.analysis.activation_patching.by_hooks import HookSweep
from dtx.analysis.activation_patching.compute import compute
from dtx.analysis.activation_patching.sweep import NodeSweep
from dtx.analysis.core.analysis import Analysis
from dtx.analysis.core.patching_spec import HOOKS, Direction, Node
from dtx.analysis.core.result import Verdict
from dtx.config.compose import build_group
from dtx.config.ranges import problems
from dtx.dt.model import DecisionTransformerModel, initialise
from dtx.dt.model_stage import ModelStage
from dtx.pairs.making import make
from dtx.pairs.pair_set import PairSet, differing
from dtx.report import Report, read_metrics
from tests.dt import test_parity
from tests.dt.toy import TINY
from tests.pages.reading import Page

network = test_parity.network  # the fixture
ALL = tuple(Node)


def model(**changes) -> DecisionTransformerModel:
    stage = build_group("dt/memory_dt", [*TINY, "dt.windows.context=9", "dt.model.n_ctx=26"])
    cfg = dataclasses.replace(stage.model_config(), left_padding=False, **changes)
    made = DecisionTransformerModel(cfg)
    initialise(made, None, 0.5, 3)
    return made.eval()


@pytest.fixture(scope="module")
def stage() -> ActivationPatching:
    built = build_group("analysis/activation_patching", ["pairs.dataset=null"])
    return dataclasses.replace(built, directions=(Direction.denoise,))


@pytest.fixture(scope="module")
def pairs(stage, tmp_path_factory) -> PairSet:
    out = tmp_path_factory.mktemp("pairs")
    declared = stage.pairs
    declared = dataclasses.replace(
        declared, checks=dataclasses.replace(declared.checks, min_ld_gap=0.02)
    )
    make(declared).save(out, Report(out))
    return PairSet.read(out)


def only(pairs: PairSet, *variants: str) -> PairSet:
    table = pairs.table[pairs.table["variant"].isin(variants)]
    return dataclasses.replace(pairs, table=table.reset_index(drop=True))


@pytest.mark.parametrize("direction", list(Direction))
@pytest.mark.parametrize(
    "changes", [{}, {"gated_mlp": True, "act_fn": "relu"}, {"left_padding": True}]
)
def test_everything_is_one_and_nothing_and_the_unchanged_are_zero(stage, pairs, direction, changes):
    wanted = dataclasses.replace(stage, directions=(direction,), nodes=(Node.resid_pre, Node.z))
    changes = {"left_padding": False, **changes}
    padding = changes.pop("left_padding")
    network = model(**changes)
    network.cfg.left_padding = padding
    found = compute(wanted, network, only(pairs, "key/left", "ball/left"))
    assert len(found.checks) == 4 and found.metrics["identity_error"] < 1e-4
    assert found.metrics["null_change"] < 1e-5 and all(check.holds for check in found.checks)
    sets = found.tables["sets"]
    assert {"everything", "nothing", "unchanged", "R", "R without R1"} <= set(sets["set"])
    assert sets["rho"].notna().sum() > 20
    # Node by node, too: the embedding of a token that is the same in both runs brings nothing.
    (batch,) = only(pairs, "key/left", "ball/left").batches(network)
    patches = found.tables["patches"]
    at = patches[(patches["name"] == "L0 resid_pre")]
    # A donor is put into the run that its pair's is put into, which is another one in each direction.
    own = batch.control_of.numpy()
    base = np.where(own >= 0, own, np.arange(len(batch)))
    other = batch.clean[torch.from_numpy(base)] if direction is Direction.noise else batch.corrupt
    source = batch.corrupt if direction is Direction.noise else batch.clean
    donor = torch.from_numpy(own >= 0)
    differs = torch.where(donor[:, None], differing(batch.clean, other), differing(source, other))
    same = ~differs.numpy().ravel()
    assert len(at) == same.size and same.any()
    assert np.abs(at["change"].to_numpy()[same]).max() < 1e-5
    assert np.abs(at["change"].to_numpy()[~same]).max() > 1e-3


@pytest.mark.parametrize("direction", list(Direction))
def test_the_batched_sweep_is_one_patch_after_the_other(stage, pairs, direction):
    network = model(gated_mlp=True, act_fn="relu")
    few = only(pairs, "key/left")
    few = dataclasses.replace(few, table=few.table[few.table["kind"] == "edit"].head(3))
    wanted = dataclasses.replace(stage, directions=(direction,), nodes=ALL, at_once=37)
    table = compute(wanted, network, few).tables["patches"]
    (batch,) = few.batches(network)
    sides = (batch.clean, batch.corrupt)
    source, base = sides if direction is Direction.denoise else sides[::-1]
    place = {pair: row for row, pair in enumerate(batch.table["pair"])}
    rng = np.random.default_rng(0)
    for index in rng.choice(len(table), 50, replace=False):
        patch = table.iloc[index]
        row, at, head = place[patch["pair"]], patch["position"], patch["head"]
        name = f"blocks.{patch['layer']}.{HOOKS[patch['node']]}"
        with torch.no_grad():
            _, cache = network.run_with_cache(source[row], names_filter=name)

            def put(value, hook, at=at, head=head, node=patch["node"], new=cache[name]):
                value = value.clone()
                where = (0, at) if head < 0 else (0, at, head)
                where = (0, head, at) if node == "pattern" else where
                value[where] = new[where]
                return value

            before = network(base[row])[:, -1]
            after = network.run_with_hooks(base[row], fwd_hooks=[(name, put)])[:, -1]
        change = (after - before)[0]
        expected = float(change[0] - change[1])  # left, right
        assert patch["change"] == pytest.approx(expected, abs=2e-5), patch["name"]


@pytest.mark.parametrize("direction", list(Direction))
def test_the_sweep_that_knows_hooks_alone_finds_the_same(pairs, direction):
    network = model(n_layers=2)
    (batch,) = only(pairs, "key/left").batches(network)
    kinds = (HookSweep, NodeSweep)
    ours, quick = (kind(network, batch, 0.01, direction, ALL, 500).patches() for kind in kinds)
    numbers = ["change", "rho"]
    pd.testing.assert_frame_equal(ours.drop(columns=numbers), quick.drop(columns=numbers))
    assert quick["rho"].notna().any() and quick["change"].abs().max() > 0.1
    np.testing.assert_allclose(ours["change"], quick["change"], atol=2e-5)


def test_without_a_stage_rows_come_node_by_node_and_stop_when_told(pairs):
    """With weights that want gradients, outside of inference mode, with the caller's threads."""
    network = model(n_layers=2)
    (batch,) = only(pairs, "key/left").batches(network)
    threads, asked = torch.get_num_threads(), []

    def sweep(stop):
        nodes = (Node.resid_pre, Node.z, Node.k)
        return NodeSweep(network, batch, 0.02, Direction.denoise, nodes, 16, stop)

    def count():
        asked.append(torch.get_num_threads())
        return False

    whole = sweep(count).patches()
    parts = list(sweep(count).parts())
    shares = [share for share, _ in parts]
    assert shares == pytest.approx(np.linspace(0, 1, len(parts) + 1)[1:])
    pd.testing.assert_frame_equal(pd.concat([t for _, t in parts], ignore_index=True), whole)
    assert all(table["name"].nunique() == 1 for _, table in parts)
    assert set(asked) == {threads}

    def after(calls):
        left = iter(range(calls))
        return lambda: next(left, None) is None

    early = list(sweep(after(len(asked) // 4)).parts())
    assert 0 < len(early) < len(parts) and early[-1][0] < 1
    for (_, table), (_, complete) in zip(early, parts, strict=False):
        pd.testing.assert_frame_equal(table, complete)
    assert not list(sweep(lambda: True).parts())


def test_pairs_closer_than_the_gap_are_missing_not_numbers(stage, pairs):
    wide = dataclasses.replace(pairs, about={**pairs.about, "min_ld_gap": 1e6})
    quick = dataclasses.replace(stage, nodes=(Node.resid_pre,))
    found = compute(quick, model(), only(wide, "key/left"))
    assert found.tables["patches"]["rho"].isna().all()
    assert not found.tables["runs"]["measurable"].any()
    assert [check.error is None for check in found.checks] == [False]  # that of the null pairs
    assert list(found.reasons()) == [
        "no edit changes the logit difference by min_ld_gap; not analysed"
    ]
    assert {claim.verdict for claim in found.claims} == {Verdict.NOT_APPLICABLE}
    assert all("edit changes the logit difference by" in claim.evidence for claim in found.claims)


def test_a_broken_identity_establishes_nothing(stage, pairs, monkeypatch):
    """A sweep that patches the wrong layer, and one whose null pairs change."""
    quick = dataclasses.replace(stage, nodes=(Node.mlp_out,))
    few = pairs
    assert all(check.holds for check in compute(quick, model(), few).checks)
    added = NodeSweep._added
    monkeypatch.setattr(NodeSweep, "_added", lambda *args: added(*args) + 1)
    broken = compute(quick, model(), few)
    assert not broken.established and broken.claims
    assert not any(claim.verdict.states for claim in broken.claims)
    assert "check failed: patching within a null pair" in broken.summary
    monkeypatch.undo()
    patched = NodeSweep._patched
    monkeypatch.setattr(NodeSweep, "_patched", lambda *args: 3 * patched(*args))
    broken = compute(quick, model(), few)
    assert "check failed: patching the embeddings of all tokens" in broken.summary


# --- the published model -----------------------------------------------------------------------------


@pytest.mark.skipif(not test_parity.FOLDER.is_dir(), reason="../shared/parity is not here")
def test_the_published_figures(stage, pairs, network):
    edited = pairs.table[pairs.table["kind"] == "edit"]

    def swept(edit, direction, nodes):
        chosen = edited[edited["edit"] == edit].reset_index(drop=True)
        wanted = dataclasses.replace(stage, directions=(direction,), nodes=nodes)
        return compute(wanted, network, dataclasses.replace(pairs, table=chosen)).tables

    effects = swept("instruction_flip", Direction.denoise, (Node.resid_pre, Node.mlp_out, Node.z))
    rho = effects["effects"].set_index(["reward_to_go", "name", "token"])["rho"]
    for name, token, high, low in (
        ("L0 resid_pre", "S5", 1.0, 1.0),
        ("L1 resid_pre", "S9", 0.992, 0.891),
        ("L0H1 z", "S9", 0.992, 0.891),
        ("L1 mlp_out", "S9", 0.975, 0.509),
    ):
        assert rho[0.892, name, token] == pytest.approx(high, abs=0.01), name
        assert rho[0.0, name, token] == pytest.approx(low, abs=0.01), name
    # Reward-to-go 0 put into runs that were asked for .892.
    nodes = (Node.resid_pre, Node.attn_out, Node.mlp_out)
    tables = swept("rtg_zero", Direction.noise, nodes)
    rho = tables["effects"].set_index(["name", "token"])["rho"]
    single = [rho["L0 resid_pre", f"R{t}"] for t in range(1, 10)]
    assert max(single) == pytest.approx(0.11, abs=0.01)
    assert rho["L0 attn_out", "S9"] == pytest.approx(0.951, abs=0.01)
    assert rho["L1 mlp_out", "S9"] == pytest.approx(0.917, abs=0.01)
    sets = tables["sets"].groupby("set")["rho"].mean()
    assert sets["R"] == pytest.approx(1.0, abs=1e-4) and abs(sets["S"]) < 1e-4


# --- the stage ---------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Random(ModelStage):
    """Random weights in the place of a trained model."""

    def run(self, out: Path) -> None:
        from dtx.dt.model import save

        save(model(), out)

    def load(self) -> DecisionTransformerModel:
        from dtx.dt.model import load

        return load(self.path)

    def checkpoints(self) -> dict[int, Path]:
        return {}


def drawn_again(analysis: Analysis, copy: Path) -> Path:
    """The figures of a copy of an artefact, drawn from what is on record there."""
    shutil.copytree(analysis.path, copy)
    shutil.rmtree(copy / "figures")
    analysis.redraw(copy)
    return copy / "figures"


def test_the_stage_writes_tables_figures_and_claims(stage, store, experiment_of, tmp_path):
    from dtx.running.runner import run

    declared = dataclasses.replace(
        stage.pairs,
        source=dataclasses.replace(stage.pairs.source, reward_to_go=(0.9,)),
        checks=dataclasses.replace(stage.pairs.checks, min_ld_gap=0.02),
    )
    whole = dataclasses.replace(
        stage, dt=Random(), pairs=declared, nodes=(Node.attn_out, Node.mlp_out)
    )
    strict = dataclasses.replace(whole, tolerance=1e-12)
    run(experiment_of(whole, strict))
    n = read_metrics(whole.path)
    assert n["activation_patching/identity_error"] < 1e-4
    assert n["activation_patching/null_change"] < 1e-5
    assert n["activation_patching/distinct_inputs"] <= 16
    effects = pd.read_parquet(whole.path / "tables" / "effects.parquet")
    assert set(effects["kind"]) == {"edit", "donor_clean", "donor_corrupt"}
    known = effects.dropna(subset=["low"])
    assert ((known["low"] <= known["rho"] + 1e-9) & (known["rho"] <= known["high"] + 1e-9)).all()
    assert set(known["interval"]) <= {f"t over {n} layouts" for n in (2, 3, 4)}
    assert (whole.path / "figures" / "patching_swap_targets.png").stat().st_size > 5000
    page = (whole.path / "figures" / "patching.html").read_text()
    assert "swap targets, RTG 0.9, denoise: activations from the edit" in page
    assert "control: unrelated layout, base run" in page
    assert Page(page).problems == [] and Page(page).external == []
    # Random weights: no edit moves a decision, so there is nothing to say of them.
    assert "swap_targets: edit changes the logit difference by" in whole.summary()
    assert {c.verdict for c in whole.result().claims} <= {
        Verdict.NOT_APPLICABLE,
        Verdict.NOT_ESTABLISHED,
    }
    redrawn = drawn_again(whole, tmp_path / "copy")
    assert (redrawn / "patching_swap_targets.png").stat().st_size > 5000
    assert (redrawn / "patching.html").read_text() == page
    assert strict.summary().startswith("not established (check failed: patching")
    claims = strict.result().claims
    assert claims and not any(claim.verdict.states for claim in claims)


def test_wrong_settings_are_explained(stage):
    wrong = dataclasses.replace(
        stage, nodes=(), tolerance=0.0, at_once=0, directions=(), checkpoint=-1
    )
    assert {field for field, _ in problems(wrong)} == {
        "nodes",
        "tolerance",
        "at_once",
        "directions",
        "checkpoint",
    }
    twice = dataclasses.replace(stage, directions=(Direction.noise, Direction.noise))
    assert [field for field, _ in twice.check()] == ["directions"]
