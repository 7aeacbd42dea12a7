"""Pairs whose two runs are the same to the model: that nothing was edited is said, not "no effect"."""

import dataclasses

import pytest

from dtx.analysis.core.gaps import Gaps
from dtx.analysis.core.patching import NO_GAP, SAME_RUNS, without_gap
from dtx.analysis.core.patching_spec import Direction, Node
from dtx.config.compose import build_group
from dtx.pairs.making import make
from dtx.pairs.pair_set import PairSet
from dtx.report import Report
from tests.analysis.test_activation_patching import model

ANALYSES = {
    "activation_patching": {"nodes": (Node.resid_pre,), "directions": (Direction.denoise,)},
    "attribution_patching": {"nodes": (Node.resid_pre,), "edges": 0, "steps": 1, "most_steps": 1},
    "path_patching": {},
    "smallest_circuit": {},
}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory) -> PairSet:
    """Of one edit: another reward-to-go, which a behaviour clone does not read."""
    out = tmp_path_factory.mktemp("pairs")
    declared = build_group("pairs/memory", ["pairs.dataset=null"])
    make(dataclasses.replace(declared, edits={"rtg_zero": declared.edits["rtg_zero"]})).save(
        out, Report(out)
    )
    return PairSet.read(out)


def result(name, network, pairs):
    from importlib import import_module

    stage = build_group(f"analysis/{name}", ["pairs.dataset=null"])
    stage = dataclasses.replace(stage, **ANALYSES[name])
    compute = import_module(f"dtx.analysis.{name}.compute").compute
    return compute(stage, network, pairs, *([True] if name == "smallest_circuit" else []))


@pytest.mark.parametrize("name", ANALYSES)
def test_an_edit_that_a_model_does_not_read_is_said_to_change_nothing(name, pairs):
    found = result(name, model(reward_to_go=False), pairs)
    assert SAME_RUNS in list(found.reasons()) and not found.established
    runs = found.tables["runs"]
    assert SAME_RUNS in found.summary
    assert (runs["ld_clean"] == runs["ld_corrupt"])[runs["kind"] == "edit"].all()


@pytest.mark.parametrize("name", ["activation_patching", "smallest_circuit"])
def test_a_model_that_reads_it_is_not_said_so(name, pairs):
    reasons = list(result(name, model(), pairs).reasons())
    assert SAME_RUNS not in reasons


def test_one_edit_of_several_is_told_by_its_name(pairs):
    import pandas as pd

    rows = [
        {"edit": edit, "kind": kind, "reward_to_go": 0.9, "variant": v, "ld_clean": 1.0,
         "ld_corrupt": 1.0 - moved, "measurable": False}
        for edit, kind, moved in (("idle", "edit", 0.0), ("small", "edit", 1e-7), ("x", "null", 0.0))
        for v in ("a", "b")
    ]  # fmt: skip
    runs = pd.DataFrame(rows)
    gaps = Gaps.of(runs, 0.5, {})
    assert gaps.words("idle") == (
        "edit changes the logit difference in no pair: the model does not read it"
    )
    assert "changes the logit difference by" in gaps.words("small") and gaps.unread == {"idle"}
    assert without_gap(runs) == [NO_GAP]
    assert without_gap(runs[runs["edit"] != "small"]) == [SAME_RUNS]
