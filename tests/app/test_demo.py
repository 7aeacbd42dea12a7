"""The model that ships: it loads, it is what its card says, and its command makes it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import dtx
from dtx.app.address import parse
from dtx.app.asked import Explorer
from dtx.app.demo import COMMANDS, FOLDER, entries, environment, model, training_data
from dtx.app.demo.__main__ import main
from dtx.app.demo.criteria import FIXED, HIGH, LOW
from dtx.app.demo.make import MEASURED, make, section
from dtx.app.demo.measure import SEED, TARGETS, measured, verdicts
from dtx.app.models import DT, PLANTED, Catalogue, Loader
from dtx.app.scene import LETTERS, OpenPanel
from dtx.config.compose import compose, experiment
from dtx.dataset.episodes import Outcome
from dtx.dt.rollout import greedy_by_layout
from dtx.env.decision import Decision
from dtx.errors import UserError
from dtx.store.store import Store
from tests.fast import FAST

MOST_BYTES = 3_000_000
KNOWN = json.loads((FOLDER / MEASURED).read_text())
CARD = (FOLDER / "README.md").read_text()
_LEFT_OUT = ("demonstrations", "targets", "behaviour_clone", "shuffled")
TINY = [
    *(line for line in FAST if not any(word in line for word in _LEFT_OUT)),
    "analysis.calibration.targets=[0,0.892]",
    "analysis.calibration.criteria.high=0.892",
    "analysis.calibration.behaviour_clone=null",
    "analysis.calibration.shuffled=null",
    "dt.steps=40",
    "dt.kept_checkpoints=5",
]


@pytest.fixture(scope="module")
def shipped():
    return model()


def decision() -> Decision:
    found = environment().decision
    assert found is not None
    return found


def test_it_is_small():
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) <= MOST_BYTES


def test_its_command_makes_this_model(shipped):
    """By its key: the same settings of the same stages, all the way down to the agent."""
    overrides = ["experiment=demo", "target=dt"]
    (stage,) = experiment(compose(overrides), overrides).targets.values()
    assert shipped.label == stage.label


def test_it_acts_in_the_environment_that_its_records_name(shipped):
    assert shipped.env == environment()
    assert shipped.model.cfg.reward_to_go


@pytest.fixture(scope="module")
def again(shipped):
    """The cheap part of what its card says, measured again."""
    return measured(shipped, environment(), [LOW, HIGH])


def test_it_does_what_its_card_says(again):
    by_target = {row["target"]: row for row in KNOWN}
    assert list(by_target) == list(TARGETS)
    for row in again:
        known = by_target[row["target"]]
        assert row["greedy"] == known["greedy"]
        for name in (
            "return",
            "success",
        ):  # another processor may round a sampled action the other way
            assert row[name]["value"] == pytest.approx(known[name]["value"], abs=0.02)


def test_it_is_steered(again):
    assert [verdict.value for _, _, verdict in verdicts(again)] == ["confirmed"] * 2


def test_what_it_returns_rises_with_what_it_is_asked_for():
    returns = [row["return"]["value"] for row in KNOWN]
    assert np.corrcoef(returns, TARGETS)[0, 1] > 0.9


def test_the_card_has_commands_seed_criteria_and_numbers(shipped):
    kept = sorted(shipped.checkpoints())
    assert CARD.endswith("\n".join(section(KNOWN, kept)) + "\n")
    for text in (*COMMANDS, f"Seed {SEED}", FIXED, "license: mit"):
        assert text in CARD
    assert shipped.config["seed"] == SEED


def test_no_path_of_the_machine_that_made_it_is_in_it():
    for path in FOLDER.rglob("*"):
        if path.suffix in (".md", ".json"):
            assert "/tmp" not in path.read_text() and "/work" not in path.read_text()


def test_its_checkpoints_lead_from_no_training_to_the_model(shipped):
    steps = sorted(shipped.checkpoints())
    assert steps[0] == 0
    assert len(steps) >= 4
    right = [
        (greedy_by_layout(shipped.at(step).model, decision(), [HIGH]) == Outcome.SUCCESS).sum()
        for step in (steps[0], steps[-1])
    ]
    assert right[0] < right[1] == 4


def test_what_it_was_trained_on():
    known = training_data()
    assert known.returns.about() == {"lowest": 0, "highest": HIGH, "best": HIGH}
    assert known.observations.dtype == np.uint8
    assert known.observations.shape[1:] == (7, 7, 3)
    assert len(np.unique(known.observations, axis=0)) == len(known.observations)
    vector = decision().vector(list(range(len(decision().layouts))), 0)
    first = vector.reset()
    vector.close()
    for observation in first:
        assert (known.observations == observation).all((1, 2, 3)).any()


def test_without_a_store_the_page_offers_both_models(tmp_path):
    catalogue = Catalogue(None, others=entries(tmp_path))
    assert [entry.id for entry in catalogue.entries()] == ["demo", "planted"]
    assert catalogue.first().id == "demo"
    for name, kind in (("demo", DT), ("planted", PLANTED)):
        about = catalogue.choose(name).entry.about()
        assert (about["kind"], about["env"], about["problem"]) == (kind, "memory", None)
    step = max(catalogue.choose("demo").entry.checkpoints)
    assert catalogue.choose(f"demo@{step}").id == f"demo@{step}"


@pytest.mark.parametrize(("name", "asked", "end"), [
    ("demo", "", "success"), ("demo", "&r=0", "failure"),
    ("planted", "", "success"), ("planted", "&r=0", "failure"),
])  # fmt: skip
def test_on_the_page_both_do_as_they_are_asked_to(name, asked, end, tmp_path):
    """By the explorer's own answers: the most probable action, until the episode ends."""
    explorer, loader = Explorer(Catalogue(None, others=entries(tmp_path))), Loader()
    for layout in decision().layouts:
        actions, over = "", None
        while over is None:
            scene, told = parse(f"#1&m={name}&w={layout}&a={actions}{asked}")
            assert not told
            answer = explorer.ask(scene.json(), [OpenPanel("policy")], loader)
            over = answer["play"]["original"]["over"]
            policy = answer["panels"]["policy"][0]["data"]["original"]
            actions += LETTERS[int(policy["probabilities"].argmax())]
        assert over == end


def test_the_other_instruction_makes_it_turn_the_other_way(tmp_path):
    explorer, loader = Explorer(Catalogue(None, others=entries(tmp_path))), Loader()
    flip = "set_type:select.role=instruction:to.ball=key:to.key=ball"
    for layout in decision().layouts:
        scene, _ = parse(f"#1&m=demo&w={layout}&a=ffff&e={flip}")
        answer = explorer.ask(scene.json(), [OpenPanel("policy")], loader)
        data = answer["panels"]["policy"][0]["data"]
        assert data["original"]["ld"] * data["edited"]["ld"] < -25


@pytest.mark.slow
def test_the_command_writes_a_model_like_the_one_that_ships(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    dtx.run("experiment=demo", *TINY, "tracking.enabled=false")
    rows = make(Store(tmp_path / "store"), tmp_path / "made", *TINY, episodes=4)
    made = model(tmp_path / "made")
    assert [row["target"] for row in rows] == list(TARGETS)
    names = {str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*") if path.suffix != ".png"}
    of_made = {str(p.relative_to(made.folder)) for p in made.folder.rglob("*")}
    steps = {str(Path("checkpoints") / path.name) for path in FOLDER.glob("checkpoints/*")}
    assert names - steps <= of_made
    assert training_data(made.folder).returns.highest <= HIGH
    # Again, over what is there: the card does not grow.
    card = (made.folder / "README.md").read_text()
    shutil.rmtree(made.folder / "figures")
    make(Store(tmp_path / "store"), made.folder, *TINY, episodes=4)
    assert (made.folder / "README.md").read_text() == card


def test_without_the_experiment_the_command_says_what_to_run(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        "sys.argv", ["demo", "--store", str(tmp_path), "--out", str(tmp_path / "x")]
    )
    assert main() == 2
    assert "dtx run experiment=demo" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_a_damaged_model_is_one_clear_line(tmp_path):
    folder = shutil.copytree(FOLDER, tmp_path / "model")
    (folder / "weights.safetensors").write_bytes(b"no weights")
    with pytest.raises(UserError, match=r"weights\.safetensors"):
        model(folder)
