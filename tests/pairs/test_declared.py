"""Declared pairs: exact masks, controls, refusals, errors that name edit and cell."""

from __future__ import annotations

import copy
import dataclasses
import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from omegaconf import OmegaConf

from dtx.config.build import Builder, ConfigError
from dtx.config.compose import build_group, compose, experiment
from dtx.dt.model import DecisionTransformerModel, initialise
from dtx.dt.model_stage import ModelStage
from dtx.errors import UserError
from dtx.pairs.declared import Declared
from dtx.pairs.making import make, nearest
from dtx.pairs.pair_set import PairBatch, PairSet
from dtx.pairs.spec import PrefixPolicy
from dtx.report import Report, read_metrics
from tests.agents import Constant
from tests.dt.toy import TINY

FEW = {"dataset": None, "source__variants": 3, "source__reward_to_go": [0.9]}


@functools.cache
def composed(option: str, *overrides: str) -> dict:
    return OmegaConf.to_container(compose([f"pairs={option}", *overrides]))


def declared(option: str, *overrides: str, edits: str = "", **changes) -> Declared:
    """Build pairs; ``edits`` is YAML that replaces the config's, ``changes`` are values by dotted name."""
    raw = copy.deepcopy(composed(option, *overrides))
    if edits:
        raw["pairs"]["edits"] = yaml.safe_load(edits)
    for name, value in changes.items():
        *parents, leaf = name.split("__")
        functools.reduce(dict.__getitem__, parents, raw["pairs"])[leaf] = value
    builder = Builder(raw)
    built = builder.at("pairs", Declared)
    builder.finish()
    return built


def made(stage: Declared, out: Path) -> PairSet:
    """The pairs without their pictures, which take the most time."""
    out.mkdir(exist_ok=True)
    make(stage).save(out, Report(out))
    return PairSet.read(out)


def model(**changes) -> DecisionTransformerModel:
    stage = build_group("dt/memory_dt", [*TINY, "dt.windows.context=9", "dt.model.n_ctx=26"])
    cfg = dataclasses.replace(stage.model_config(), **changes)
    network = DecisionTransformerModel(cfg)
    initialise(network, None, 0.5, 0)
    return network.eval()


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
        if pair["kind"] == "shuffled_donor":
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


def test_null_pairs_and_shuffled_donors_are_always_there(pairs):
    (batch,) = pairs.batches(model())
    table = batch.table
    null, donor = batch.kind("null"), batch.kind("shuffled_donor")
    assert null.sum() == 8 and not batch.changed[null].any()
    assert donor.sum() == 2 * (table["kind"] == "edit").sum() == 56
    own = batch.control_of[donor].numpy()
    assert (batch.control_of[~donor] == -1).all()
    assert (table["kind"].to_numpy()[own] == "edit").all()
    assert (table["corrupt"].to_numpy()[own] == table["corrupt"][donor].to_numpy()).all()
    seen = pairs.runs["observation"]
    for row, of in zip(np.flatnonzero(donor), own, strict=True):
        for side in ("clean", "corrupt"):
            assert (seen[table["clean"][row]] != seen[table[side][of]]).any()
        # Nor has a donor what the edit took away, if that is reward-to-go.
        asked = [pairs.runs["reward_to_go"][table[side][row]] for side in ("clean", "corrupt")]
        assert (asked[0] == asked[1]).all()
    kept = batch.where(table["edit"].to_numpy() == "decoy")
    assert (kept.table["kind"].to_numpy()[kept.control_of[kept.control_of >= 0]] == "edit").all()


def test_donors_of_an_edit_ask_for_the_same_turn_and_for_the_other(pairs):
    """key/left and ball/left ask for left; a control that brings the clean run's turn by luck is none."""
    table = pairs.table.set_index("pair")
    turn = {
        row["clean"]: row["variant"].split("/")[1] for _, row in table.iterrows() if row["of"] < 0
    }
    of_world = table["edit"].isin(["instruction_flip", "swap_targets"])
    donors = table[(table["kind"] == "shuffled_donor") & of_world]
    for (edit, target), mine in donors.groupby(["edit", "reward_to_go"]):
        same = [turn[d["clean"]] == turn[table.loc[d["of"], "clean"]] for _, d in mine.iterrows()]
        assert (len(same), sum(same)) == (8, 4), (edit, target)


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
    table = pd.DataFrame(made_or_refused(declared("memory", at=6, **common), tmp_path))
    assert table["reason"].str.contains("clean run: the episode ended with step 6").all()


def made_or_refused(stage: Declared, out: Path) -> list[dict]:
    with pytest.raises(UserError, match="every pair was refused"):
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
    assert (edited["corrupt_distance"][~decoy] == 0).all() and (table["clean_distance"] == 0).all()


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
    )


@pytest.fixture
def runner_of(experiment_of):
    from dtx.run.runner import run

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


# --- declarations that cannot be met -----------------------------------------------------------------


def errors_of(option: str, *overrides: str, **changes) -> dict[str, str]:
    with pytest.raises(ConfigError) as error:
        declared(option, *overrides, **changes)
    return dict(error.value.errors)


@pytest.mark.parametrize(
    ("edit", "place", "words"),
    [
        ("{op: add, type: key, at: [0, 3]}", "edits.mine[0]", "(0, 3) is the outer wall"),
        ("{op: add, type: key, at: [9, 3]}", "edits.mine[0]", "(9, 3) is outside the 7x7 world"),
        ("{op: add, type: key, at: [1, 3]}", "edits.mine[0]", "(1, 3) is not free, the agent is"),
        (
            "{op: move, select: {role: instruction}, to: [1, 1]}",
            "edits.mine[0]",
            "(1, 1) is not free",
        ),
        ("{op: remove, select: {position: [2, 3]}}", "edits.mine[0]", "nothing stands at (2, 3)"),
        ("{op: remove, select: {type: door}}", "edits.mine[0]", "remove: nothing with type door"),
        (
            "{op: set_colour, select: {role: target}, to: {red: blue}}",
            "edits.mine[0]",
            "green at (5, ",
        ),
        (
            "{op: set_state, select: {role: target}, to: open}",
            "edits.mine[0]",
            "has no state; a door has",
        ),
        (
            "{op: exchange, a: {type: wall}, b: {role: target}}",
            "edits.mine[0]",
            "a must be one cell, but is (1, 1), (2, 1)",
        ),
        (
            "{op: obs_add, frame: first, view: [1, 2], type: key, ood: true}",
            "edits.mine[0]",
            "view's cell (1, 2) at step 0 is not free, it shows a",
        ),
        (
            "{op: set_tpye, select: {role: target}, to: key}",
            "edits.mine[0].op",
            "did you mean 'set_type'",
        ),
        (
            "{op: remove, select: {role: targt}}",
            "edits.mine[0].select.role",
            "did you mean 'target'",
        ),
        ("{op: remove}", "edits.mine[0].select", "remove needs it"),
        ("{op: add, type: kee, at: [2, 3]}", "edits.mine[0].type", "did you mean 'key'"),
        ("{op: add, type: key, at: 3}", "edits.mine[0].at", "a cell [x, y] is wanted"),
        ("{op: set_rtg, value: 1, scope: index}", "edits.mine[0].index", "goes with scope: index"),
        ("{op: set_rtg, value: x, scope: all}", "edits.mine[0].value", "a number is wanted"),
        (
            "{op: obs_add, frame: first, view: [0, 5], type: key, ood: false}",
            "edits.mine[0].ood",
            "out of distribution",
        ),
        (
            "{op: obs_add, frame: first, view: [7, 5], type: key, ood: true}",
            "edits.mine[0].view",
            "7x7 view",
        ),
    ],
)
def test_an_impossible_edit_is_named_with_its_cell(edit, place, words):
    errors = errors_of("memory", edits=f"mine: [{edit}]")
    assert words in errors[f"pairs.{place}"]


def test_all_errors_of_a_declaration_come_at_once():
    errors = errors_of(
        "memory",
        contrast__pos="jump",
        source__prefix__actions=["forwards"],
        checks__min_ld_gap=-1,
    )
    assert set(errors) == {
        "pairs.contrast.pos",
        "pairs.source.prefix.actions[0]",
        "pairs.checks.min_ld_gap",
    }
    edits = "{mine: [{op: nothing}, {op: remove, select: {role: key}}], none: []}"
    errors = errors_of("memory", edits=edits, at="crossing")
    assert set(errors) == {
        "pairs.edits.mine[0].op",
        "pairs.edits.mine[1].select.role",
        "pairs.edits.none",
        "pairs.at",
    }
    assert "it has decision" in errors["pairs.at"]


def test_what_an_environment_lacks_is_said():
    errors = errors_of("memory", "env=minigrid")
    assert "MiniGrid has no list of all worlds" in errors["pairs.source.variants"]
    assert "it has none" in errors["pairs.at"] and "no complement" in errors["pairs.edits.decoy"]
    errors = errors_of("memory", source__variants="some")
    assert "not 'some'" in errors["pairs.source.variants"]
    errors = errors_of("dynamic_obstacles", contrast__pos="toggle")
    assert "toggle is no action of DynamicObstacles" in errors["pairs.contrast.pos"]
    for policy, stage in (("teacher", "${agent}"), ("dt", "${dt}")):
        for of in (None, "${dataset}"):
            prefix = {"policy": policy, "actions": [], "of": of}
            changes = {f"source__prefix__{name}": value for name, value in prefix.items()}
            assert stage in errors_of("memory", **changes)["pairs.source.prefix.of"]


# --- every environment -------------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["door_key", "dynamic_obstacles"])
def test_pairs_of_other_environments(option, tmp_path):
    stage = declared(option, **FEW)
    pairs = made(stage, tmp_path)
    at_decision = stage.env.roles.predicates()["decision"]
    runs = pairs.runs
    for batch in pairs.batches(model(n_timesteps=50)):
        for row, pair in batch.table.iterrows():
            last = pair["states"] - 1
            assert at_decision(runs["observation"][pair["clean"], last])
            if pair["kind"] == "null":
                assert not batch.changed[row].any()
            if pair["kind"] == "edit":
                assert batch.changed[row].any()
    edits = set(pairs.table["edit"][pairs.table["kind"] == "edit"])
    assert edits == set(stage.edits)


def test_without_balls_the_way_is_free_and_without_a_key_the_hand_empty(tmp_path):
    for option, edit, cell, there in [
        ("dynamic_obstacles", "no_obstacles", (3, 5), 6),
        ("door_key", "no_key", (3, 6), 5),
    ]:
        pairs = made(declared(option, **FEW), tmp_path / option)
        chosen = pairs.table[(pairs.table["edit"] == edit) & (pairs.table["kind"] == "edit")]
        assert len(chosen) == 3
        for pair in chosen.itertuples():
            last = pair.states - 1
            assert pairs.runs["observation"][pair.clean, last, *cell, 0] == there
            assert pairs.runs["observation"][pair.corrupt, last, *cell, 0] != there


def test_any_minigrid_task_by_number_of_steps(tmp_path):
    stage = declared(
        "memory",
        "env=minigrid",
        "env.id=BabyAI-GoToObj-v0",
        "env.max_steps=20",
        edits="ball: [{op: set_type, select: {type: box}, to: ball}]",
        **{**FEW, "source__variants": 12},
        at=2,
        source__prefix__actions=["left", "left"],
    )
    pairs = made(stage, tmp_path)
    assert {"ball"} == set(pairs.table["edit"][pairs.table["kind"] == "edit"])
    assert pairs.refused["reason"].str.contains("nothing with type box").any()


def test_pairs_choose_their_environment_and_are_bit_equal_again(tmp_path):
    stage = declared("dynamic_obstacles", **FEW)
    assert stage.env.id == "MiniGrid-Dynamic-Obstacles-5x5-v0"
    for again in ("one", "two"):
        (tmp_path / again).mkdir()
        stage.run(tmp_path / again)
    files = sorted(p.relative_to(tmp_path / "one") for p in (tmp_path / "one").rglob("*.*"))
    assert {str(f) for f in files} >= {
        "runs.npz",
        "pictures.npz",
        "tables/refused.parquet",
        "figures/pairs.png",
    }
    for file in files:
        one, two = (tmp_path / run / file for run in ("one", "two"))
        assert one.read_bytes() == two.read_bytes(), file


def test_pairs_are_a_target_of_their_own():
    targets = experiment(compose(["target=pairs"])).targets
    assert [type(t) for t in targets.values()] == [Declared]
