"""Declarations: errors that name edit and cell; pairs of every environment."""

from __future__ import annotations

import pytest

from dtx.config.compose import compose, experiment
from dtx.pairs.declared import Declared
from tests.pairs.build import FEW, declared, errors_of, made, model

# --- declarations that cannot be met -----------------------------------------------------------------


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
    assert (
        "it has none" in errors["pairs.at"]
        and "no complement" in errors["pairs.edits.decoy[0].type"]
    )
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
            # A donor is chosen by its answer, in whatever state it is given.
            if not pair["kind"].startswith("donor"):
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
