"""Labels of a labeller: scored by detection, from recorded answers, and never made up."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from dtx.analysis.labels.compute import compute
from dtx.analysis.labels.drawn import texts, view
from dtx.analysis.labels.labeller import Recorded, asked_detection, asked_label, digest
from dtx.analysis.labels.spec import TRAINED, UNTRAINED, State
from dtx.config.build import ConfigError
from dtx.config.compose import build_group
from dtx.errors import UserError
from tests.analysis.labels_toy import spec, world
from tests.dt.toy import episodes


@pytest.fixture(scope="module")
def toy():
    return world()


class Reader:
    """Says which fact is true in all states with the feature, by reading the drawn states."""

    def __init__(self) -> None:
        self.record: dict[str, object] = {}

    def label(self, states):
        on, off = states[: len(states) // 2], states[len(states) // 2 :]
        words = set.intersection(*(set(s.text.split("\n")) for s in on))
        label = min(words, key=lambda w: sum(w in s.text.split("\n") for s in off))
        self.record[digest(asked_label(states))] = label
        return label

    def detect(self, label, states):
        answer = [label in text.split("\n") for text in states]
        self.record[digest(asked_detection(label, states))] = answer
        return answer


def drawn(toy) -> list[str]:
    names = toy.facts.names
    return [
        "\n".join(n for n, v in zip(names, row, strict=True) if v) + "\nalways"
        for row in toy.facts.values
    ]


def asked(toy, labeller):
    source = toy.source([toy.of(f"key at {i}") for i in range(3)], TRAINED)
    fresh = [world(seed=9).nonsense(UNTRAINED, seed) for seed in range(2)]
    return compute(spec(labeller=labeller), toy.facts, toy.columns, [source], fresh, (), drawn(toy))


def written(path: Path, record: dict) -> Recorded:
    lines = [json.dumps({"asked": k, "answer": v}) for k, v in record.items()]
    path.write_text("\n".join(lines) + "\n")
    return Recorded(path=path, sha256=hashlib.sha256(path.read_bytes()).hexdigest())


def test_labels_are_scored_on_states_that_were_not_shown(toy, tmp_path):
    toy = world()
    reader = Reader()
    result = asked(toy, reader)
    table = result.tables["detection"]
    assert table.label.tolist() == ["key at 0", "key at 1", "key at 2"] == table.tree.tolist()
    assert (table.balanced_accuracy == 1).all() and (table.states == 12).all()
    assert result.metrics["detection"] == 1 == result.metrics["detection_tree"]
    # The same from a record, which asks nobody.
    again = asked(world(), written(tmp_path / "answers.jsonl", reader.record))
    assert again.tables["detection"].equals(table)


def test_a_label_that_says_nothing_scores_nothing(toy):
    class Constant(Reader):
        def label(self, states):
            return "always"

    table = asked(world(), Constant()).tables["detection"]
    assert (table.balanced_accuracy == 0.5).all()


def test_nobody_is_asked_unless_a_config_says_so(toy):
    assert spec().labeller is None
    result = asked(world(), None)
    assert result.tables["detection"].empty and "detection" not in result.metrics


def test_no_label_is_ever_made_up(toy, tmp_path):
    empty = written(tmp_path / "answers.jsonl", {})
    with pytest.raises(UserError, match="has no answer to"):
        asked(world(), empty)
    line = json.loads((tmp_path / "answers.missing.jsonl").read_text())
    assert line["asked"] == digest(line["text"]) and "strongest first" in line["text"]
    silent = written(tmp_path / "silent.jsonl", {line["asked"]: "  "})
    with pytest.raises(UserError, match="a label must be a text"):
        asked(world(), silent)

    class Blank(Reader):
        def label(self, states):
            return ""

    with pytest.raises(UserError, match="no label for feature 0"):
        asked(world(), Blank())

    class Short(Reader):
        def detect(self, label, states):
            return [True]

    with pytest.raises(UserError, match="1 answers of 12 states"):
        asked(world(), Short())


def test_records_that_cannot_be_read_are_said(tmp_path):
    states = [State("a", 1.0)]
    path = tmp_path / "answers.jsonl"
    with pytest.raises(UserError, match="no record of answers"):
        Recorded(path=path, sha256="").label(states)
    good = written(path, {digest(asked_detection("x", ["a", "b"])): [True]})
    with pytest.raises(UserError, match="2 answers true or false"):
        good.detect("x", ["a", "b"])
    with pytest.raises(UserError, match="its SHA-256 is"):
        Recorded(path=path, sha256="0" * 64).label(states)
    path.write_text("{}\n")
    broken = Recorded(path=path, sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    with pytest.raises(UserError, match="no record of answers"):
        broken.label(states)


def test_states_are_drawn_with_letters():
    observation = np.zeros((7, 7, 3), np.uint8)
    observation[3, 5, 0] = 6  # a ball ahead of the agent
    observation[2, 6, 0] = 2  # a wall on its left
    lines = view(observation).split("\n")
    assert len(lines) == 7 and lines[5][3] == "B" and lines[6] == "??#^???"
    made = episodes(4)
    columns = {name: np.array([0, 1]) for name in ("episode", "step")} | {"kind": np.array([1, 2])}
    columns["episode"][:] = 0
    state, action = texts(made, columns, np.array([0, 1]))
    assert state.startswith("token S, step 1, reward-to-go") and "action -" in state
    assert action.startswith("token A, step 2") and "action -" not in action


def test_a_labeller_without_the_methods_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="labeller"):
        build_group("analysis/labels", ["analysis.labels.labeller=nobody"])
    named = [
        "analysis.labels.labeller={_target_:dtx.analysis.labels.labeller.Recorded,path:a.jsonl,sha256:x}"
    ]
    assert build_group("analysis/labels", named).labeller == Recorded(
        path=Path("a.jsonl"), sha256="x"
    )
