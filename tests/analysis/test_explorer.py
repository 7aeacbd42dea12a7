"""The explorer's file as an analysis: what it carries, what it refuses, that it is drawn again."""

from __future__ import annotations

import base64
import dataclasses
import gzip
import re
from pathlib import Path

import pytest

from dtx.analysis.core.result import Result
from dtx.analysis.explorer import Explorer
from dtx.analysis.explorer.compute import compute
from dtx.analysis.explorer.page import File
from dtx.app.frames import decode
from dtx.config.build import ConfigError
from dtx.config.compose import build_group
from dtx.dt.model import save
from tests.app.file.subjects import model

SMALL = ["analysis.explorer.worlds=[key/left,ball/right]"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> list[tuple[str, Path]]:
    made = []
    for name, key in (("usual", "1a2b3c4d5e6f7081"), ("clone", "99aabbccddeeff00")):
        folder = tmp_path_factory.mktemp(name)
        save(model(name), folder)
        made.append((f"decision_transformer-{key}", folder))
    return made


def result_of(stage: Explorer, folders, out: Path, checkpoint: int | None = None) -> Result:
    out.mkdir(exist_ok=True)
    compute(stage, stage.env, folders, checkpoint, None).write(out, "explorer")
    return Result.read(out)


@pytest.fixture(scope="module")
def result(folders, tmp_path_factory) -> Result:
    stage = build_group("analysis/explorer", SMALL)
    return result_of(stage, folders, tmp_path_factory.mktemp("result"))


def test_it_says_what_is_in_the_file_and_both_checks_hold(result):
    assert result.established
    assert [check.error for check in result.checks] == [0, 0]
    metrics = result.metrics
    assert (metrics["models"], metrics["worlds"], metrics["windows"]) == (2, 2, 64)
    worlds = result.tables["worlds"]
    assert metrics["states"] == worlds.states.sum() == 2 * 3 * 42
    assert list(worlds.edit) == 2 * ["", "instruction_flip", "swap_targets"]
    assert (worlds.impossible == "").all()


def test_the_file_carries_what_was_recorded(result, tmp_path):
    File(result).write_html(tmp_path / "explorer.html")
    text = (tmp_path / "explorer.html").read_text()
    packed = re.search(r'id="dtx-contents">([^<]+)<', text)
    assert packed is not None
    values = decode(gzip.decompress(base64.b64decode(packed[1])))
    about = values["about"]
    assert [m["id"] for m in about["models"]] == ["1a2b3c4d", "99aabbcc"]
    assert [m["title"] for m in about["models"]] == [
        "Decision Transformer 1a2b",
        "behaviour clone 99aa",
    ]
    (env,) = about["envs"]
    assert env["worlds"] == ["key/left", "ball/right"]
    assert {e["name"] for e in env["edits"]} >= {"instruction_flip", "swap_targets", "rtg_zero"}
    assert values["scene"]["models"] == ["1a2b3c4d", "99aabbcc"]
    assert values["scene"]["world"] == "key/left"


def test_steps_of_training_are_in_the_file(folders, tmp_path):
    label, folder = folders[0]
    kept = tmp_path / "kept"
    kept.mkdir()
    save(model("usual"), kept)
    (kept / "checkpoints").mkdir()
    for step in (12, 23):
        weights = (folder / "weights.safetensors").read_bytes()
        (kept / f"checkpoints/step-{step:06d}.safetensors").write_bytes(weights)
    stage = build_group(
        "analysis/explorer",
        [*SMALL, "analysis.explorer.checkpoints=[12]"],
    )
    found = result_of(stage, [(label, kept)], tmp_path / "out", checkpoint=23)
    values = decode(found.arrays["contents"].tobytes())
    assert [m["about"]["id"] for m in values["models"]] == [
        "1a2b3c4d@23",
        "1a2b3c4d",
        "1a2b3c4d@12",
    ]
    assert values["about"]["models"][0]["checkpoints"] == [12, 23]


@pytest.mark.parametrize(
    ("overrides", "place", "said"),
    [
        (["analysis.explorer.worlds=[key/up]"], "analysis.explorer.worlds", "key/up"),
        (
            ["analysis.explorer.worlds=[key/left,key/left]"],
            "analysis.explorer.worlds",
            "each must be there once",
        ),
        (
            ["analysis.explorer.frozen=[nothing]"],
            "analysis.explorer.frozen",
            "no panel 'nothing'; there are ablation, attention",
        ),
        (["env=door_key", "env.max_steps=50"], "pairs.edits.", "no role 'instruction'"),
    ],
)
def test_what_no_file_can_carry_is_refused_before_anything_runs(overrides, place, said):
    with pytest.raises(ConfigError) as refused:
        build_group("analysis/explorer", overrides)
    wrong = [f"{where}: {what}" for where, what in refused.value.errors]
    assert any(w.startswith(place) and said in w for w in wrong), wrong


def test_a_random_world_is_refused_before_anything_runs():
    stage = build_group("analysis/explorer", [])
    env = build_group("env/dynamic_obstacles", [])
    wrong = dict(dataclasses.replace(stage, env=env, edits={}).check())
    assert wrong["env"] == (
        "what an action does in DynamicObstacles is random, so no table holds it; play it with "
        "`dtx app`, which runs minigrid"
    )
