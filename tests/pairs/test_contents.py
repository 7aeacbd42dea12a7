"""What is in declared pairs: exact masks, controls, refusals, distances; ways to the decision."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from dtx.config.build import ConfigError
from dtx.config.compose import build_group
from dtx.dt.model import DecisionTransformerModel
from dtx.dt.model_stage import ModelStage
from dtx.errors import UserError
from dtx.pairs.declared import Declared
from dtx.pairs.distance import nearest
from dtx.pairs.making import make
from dtx.pairs.pair_set import PairBatch, PairSet
from dtx.pairs.spec import PrefixPolicy
from dtx.report import read_metrics
from tests.agents import Constant
from tests.pairs.build import declared, made, model


def named(batch: PairBatch, row: int) -> set[str]:
    return {name for name, there in zip(batch.names, batch.changed[row], strict=True) if there}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory) -> PairSet:
    return made(declared("memory", dataset=None), tmp_path_factory.mktemp("memory"))


# --- Memory: what changes is known exactly -----------------------------------------------------------


@pytest.mark.parametrize("left_padding", [False, True])
def test_tokens_that_change_are_exactly_those_of_the_edit(pairs, left_padding):
    (batch,) = pairs.batches(model(left_padding=left_padding))
    shift = 4 if left_padding else 0  # 5 steps in a window of 9
    states = {f"S{t + shift}" for t in range(1, 6)}
    all_r = {f"R{t}" for t in range(1, 6 + shift)}
    for row, pair in batch.table.iterrows():
        if pair["kind"].startswith("donor"):
            continue
        expected = {
            "null": set(),
            "instruction_flip": {f"S{1 + shift}"},
            "swap_targets": states,
            "rtg_zero": all_r,  # padding repeats the first reward-to-go
            "decoy": {f"S{1 + shift}"},
        }[pair["edit"]]
        assert named(batch, row) == expected, pair["edit"]
    assert batch.clean.shape == batch.corrupt.shape == batch.changed.shape
    assert batch.names[-1] == f"S{5 + shift}" and len(batch.names) == batch.changed.shape[1]


def test_only_the_state_that_shows_the_instruction_changes_when_it_is_flipped(pairs):
    (batch,) = pairs.batches(model())
    flipped = (batch.table["edit"] == "instruction_flip") & (batch.table["kind"] == "edit")
    flipped = torch.tensor(flipped.to_numpy())
    assert (batch.changed == batch.roles["instruction"])[flipped].all()
    null = batch.where((batch.table["kind"] == "null").to_numpy())
    assert null.roles["instruction"][:, 1].all() and null.roles["instruction"].sum() == len(null)


def test_a_flipped_instruction_is_another_layout(pairs):
    """The corrupt run of key/left is the clean one of ball/right, bit by bit, and so on."""
    other = {"key/left": "ball/right", "key/right": "ball/left"}
    other |= {v: k for k, v in other.items()}
    swapped = {"key/left": "key/right", "ball/left": "ball/right"}
    swapped |= {v: k for k, v in swapped.items()}
    seen, table = pairs.runs["observation"], pairs.table
    null = table[table["kind"] == "null"].set_index(["variant", "reward_to_go"])["clean"]
    for pair in table[table["kind"] == "edit"].itertuples():
        to = {"instruction_flip": other, "swap_targets": swapped}.get(pair.edit)
        if to:
            expected = null[to[pair.variant], pair.reward_to_go]
            assert (seen[pair.corrupt] == seen[expected]).all()


def test_windows_are_those_of_a_rollout(pairs):
    from dtx.dt.rollout import decision_contexts

    network = model(left_padding=True)
    (batch,) = pairs.batches(network)
    null = ((batch.table["edit"] == "null") & (batch.table["reward_to_go"] == 0.892)).to_numpy()
    (expected,) = decision_contexts(network, build_group("env/memory").decision, [0.892])
    with torch.no_grad():
        ours = network(batch.where(null).clean)
        assert torch.equal(ours, network(expected))


@pytest.mark.parametrize(
    ("scope", "tokens"),
    [
        ("scope: all", {"R1", "R2", "R3", "R4", "R5"}),
        ("scope: last", {"R5"}),
        ("scope: index, index: 2", {"R3"}),
    ],
)
def test_reward_to_go_is_edited_where_it_was_asked(scope, tokens, tmp_path):
    edits = f"low: [{{op: set_rtg, value: 0.1, {scope}}}]"
    (batch,) = made(declared("memory", edits=edits, dataset=None), tmp_path).batches(model())
    rows = np.flatnonzero(batch.table["kind"] == "edit")
    assert len(rows) == 8 and all(named(batch, row) == tokens for row in rows)
    changed = batch.corrupt["reward_to_go"][rows] != batch.clean["reward_to_go"][rows]
    assert torch.allclose(batch.corrupt["reward_to_go"][rows][changed], torch.tensor(0.1))


def test_a_behaviour_clone_reads_the_same_pairs_without_reward_to_go(pairs):
    (batch,) = pairs.batches(model(reward_to_go=False))
    low = (batch.table["edit"] == "rtg_zero") & (batch.table["kind"] == "edit")
    low = torch.tensor(low.to_numpy())
    assert batch.names == ["S1", "A1", "S2", "A2", "S3", "A3", "S4", "A4", "S5"]
    assert not batch.changed[low].any() and batch.changed[~low].any()


# --- controls and refusals ---------------------------------------------------------------------------


def test_null_pairs_and_donors_are_always_there(pairs):
    (batch,) = pairs.batches(model())
    table = batch.table
    null, donor = batch.kind("null"), batch.control_of.numpy() >= 0
    assert null.sum() == 8 and not batch.changed[null].any()
    edits = (table["kind"] == "edit").sum()
    assert batch.kind("donor_clean").sum() == batch.kind("donor_corrupt").sum() == edits == 28
    own = batch.control_of[donor].numpy()
    assert (donor == np.char.startswith(table["kind"].to_numpy(dtype=str), "donor")).all()
    assert (table["kind"].to_numpy()[own] == "edit").all()
    assert (table["corrupt"].to_numpy()[own] == table["corrupt"][donor].to_numpy()).all()
    seen, asked = pairs.runs["observation"], pairs.runs["reward_to_go"]
    for row, of in zip(np.flatnonzero(donor), own, strict=True):
        for side in ("clean", "corrupt"):
            assert (seen[table["clean"][row]] != seen[table[side][of]]).any()
        # It is asked for what the run is asked for whose answer it has.
        side = table["kind"][row].removeprefix("donor_")
        assert (asked[table["clean"][row]] == asked[table[side][of]]).all()
    kept = batch.where(table["edit"].to_numpy() == "decoy")
    assert (kept.table["kind"].to_numpy()[kept.control_of[kept.control_of >= 0]] == "edit").all()


def test_a_donor_has_the_answer_of_the_run_that_it_is_named_after(pairs):
    """key/left and ball/left ask for left; a flip of the instruction or of the targets asks for the other."""
    table = pairs.table.set_index("pair")
    decision = build_group("env/memory").decision

    def turn(run: int) -> int:
        seen = pairs.runs["observation"][run, : pairs.runs["states"][run]]
        return int(decision.turns(np.atleast_1d(decision.layout_of(seen[0], seen[-1])))[0][0])

    donors = table[table["of"] >= 0]
    for donor in donors.itertuples():
        own = table.loc[donor.of]
        side = donor.kind.removeprefix("donor_")
        assert turn(donor.clean) == turn(own[side]), donor
    flips = donors[donors["edit"].isin(["instruction_flip", "swap_targets"])]
    other = {"donor_clean": "corrupt", "donor_corrupt": "clean"}
    assert (
        flips["kind"].map(other) == flips["edit_as"]
    ).all()  # their answers agree, not what they show
    asked = donors[donors["edit"] == "rtg_zero"]
    assert (asked["kind"].str.removeprefix("donor_") == asked["edit_as"]).all()


def test_pairs_that_change_nothing_are_refused_and_counted(pairs):
    assert set(pairs.refused["reason"]) == {"the edit changes nothing that the model is given"}
    assert set(pairs.refused["edit"]) == {"rtg_zero"} and set(pairs.refused["reward_to_go"]) == {
        0.0
    }
    n = read_metrics(pairs.folder)
    assert n["pairs/n_refused"] == len(pairs.refused) == 4
    assert n["pairs/n_edited"] == 28 and n["pairs/n_control"] == 8 + 56


def test_runs_that_end_early_or_are_blocked_are_refused_with_the_reason(tmp_path):
    # A wall in the corridor stops the agent: it never comes to the junction by itself.
    common = {"dataset": None, "source__prefix__actions": ["forward"] * 4 + ["left", "forward"]}
    edits = (
        "{wall: [{op: add, type: wall, at: [4, 3]}],"
        " swap: [{op: exchange, a: {role: target}, b: {role: decoy}}]}"
    )
    stage = declared("memory", edits=edits, replay="policy", **common)
    table = made(stage, tmp_path).refused
    assert set(table["edit"]) == {"wall"} and len(table) == 8
    assert table["reason"].str.contains("not reached when the actions ended, after 6 steps").all()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"at": 6, "source__prefix__actions": ["forward"] * 4 + ["left", "forward"]},
            "source.prefix: no clean run: the episode ended with step 6, in each of the 4 worlds",
        ),
        (
            {"source__prefix__actions": ["left"]},
            "source.prefix: no clean run: not reached when the actions ended, after 1 steps",
        ),
        ({"source__prefix__longest": 2}, "source.prefix: no clean run: not reached within 2 steps"),
        ({"at": 5}, "at: 5 steps are more than the 4 of source.prefix.actions"),
    ],
)
def test_a_script_that_leads_nowhere_is_told_before_anything_runs(changes, told):
    with pytest.raises(ConfigError, match=f"(?m)^pairs.{told}"):
        declared("memory", dataset=None, **changes)


def made_or_refused(stage: Declared, out: Path) -> list[dict]:
    with pytest.raises(UserError, match="every pair was rejected"):
        stage.run(out)
    return make(stage).refused


def test_policy_replay_must_take_as_many_steps_unless_it_is_cut(tmp_path):
    search = {
        "dataset": None,
        "source__prefix": {"policy": "search", "actions": [], "of": None, "longest": 8},
        "edits": "ahead: [{op: move, select: {role: agent}, to: [2, 3]}]",
    }
    refused = made_or_refused(declared("memory", replay="policy", **search), tmp_path)
    assert {r["reason"] for r in refused} == {"3 steps, but the clean run has 4"}
    stage = declared("memory", replay="same_actions", **search)
    assert (made(stage, tmp_path).table["states"] == 5).all()


# --- out of distribution -----------------------------------------------------------------------------


def test_a_decoy_is_marked_and_its_distance_measured(tmp_path, store, runner_of, recorded):
    stage = dataclasses.replace(declared("memory"), dataset=recorded)
    runner_of(recorded)
    table = made(stage, tmp_path / "pairs").table
    edited = table[table["kind"] == "edit"]
    decoy = edited["edit"] == "decoy"
    assert edited["ood"][decoy].all() and not edited["ood"][~decoy].any()
    assert (edited["corrupt_distance"][decoy] == 1).all()  # one cell
    assert (edited["corrupt_distance"][~decoy] == 0).all() and (edited["clean_distance"] == 0).all()


def test_the_distance_is_the_number_of_cells_of_the_nearest():
    known = np.zeros((2, 7, 7, 3), np.uint8)
    known[1, :, 0] = 1
    run = np.zeros((2, 7, 7, 3), np.uint8)
    run[1, :5, 0] = 1  # 5 cells from the first, 2 from the second
    assert nearest([run, run[:1]], known) == [2, 0]


@pytest.fixture
def recorded():
    from dtx.dataset.rollouts import Rollouts, Share

    return Rollouts(
        env=build_group("env/memory"),
        agent=Constant(logits=(0.5, 0.5, 3.0, -2, -2, -2, -2)),
        episodes=200,
        mixture=(Share(temperature=1, share=1),),
        environments=50,
        validation=0.0,
        seed=0,
        facts=False,
    )


@pytest.fixture
def runner_of(experiment_of):
    from dtx.running.runner import run

    return lambda *stages: run(experiment_of(*stages))


@pytest.mark.parametrize("policy", ["teacher", "dt", "dataset"])
def test_other_policies_lead_to_the_decision(policy, tmp_path, store, runner_of, recorded):
    forward = Constant(logits=(0.0, 0.0, 1.0, 0, 0, 0, 0))
    stage = declared("memory", source__reward_to_go=[0.5])
    of = {"teacher": forward, "dt": None, "dataset": None}[policy]
    prefix = dataclasses.replace(
        stage.source.prefix, policy=PrefixPolicy(policy), actions=(), of=of, longest=6
    )
    if policy == "dt":
        prefix = dataclasses.replace(prefix, of=Planted(biased=2))
    source = dataclasses.replace(stage.source, prefix=prefix)
    stage = dataclasses.replace(stage, dataset=recorded, source=source)
    runner_of(*stage.inputs().values())
    found = made(stage, tmp_path / policy)
    actions = found.runs["action"]
    assert (actions[:, :4] == 2).all() and (found.table["states"] == 5).all()


@dataclass(frozen=True, kw_only=True)
class Planted(ModelStage):
    """A model that always prefers one action."""

    biased: int

    def run(self, out: Path) -> None:
        from dtx.dt.model import save

        network = model()
        with torch.no_grad():
            network.unembed.b_U[self.biased] = 100
        save(network, out)

    def load(self) -> DecisionTransformerModel:
        from dtx.dt.model import load

        return load(self.path)
