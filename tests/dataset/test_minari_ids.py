"""Ids of Minari datasets."""

import json

import pytest

import dtx
from dtx.config.compose import build_group
from dtx.dataset.minari.ids import wrong_id
from dtx.dataset.minari.write import write
from dtx.running.runner import run

pytest.importorskip("minari")

from tests.dataset.test_minari import FOUR_ROOMS, four_rooms, no_datasets_at_home

__all__ = ["four_rooms", "no_datasets_at_home"]  # fixtures


@pytest.mark.parametrize(
    "name",
    [
        "a/b-v0",
        "ab/c-v0",
        "a/b/c-v0",
        "b-v0",
        "-/-v0",
        "--/x-v10",
        "é/b-v0",
        "ab/c",
        "/b-v0",
        "a//b-v0",
    ],
)
def test_an_id_is_right_if_minari_takes_it(name):
    from minari.dataset.minari_dataset import parse_dataset_id

    try:
        taken = parse_dataset_id(name)[2] is not None
    except (ValueError, TypeError):
        taken = False
    assert (wrong_id(name) is None) == (taken and "//" not in name)


def test_an_environment_that_cannot_be_made_here_is_named_all_the_same(
    store, experiment_of, tmp_path, four_rooms
):
    path = tmp_path / "home" / "rooms" / "walks-v0" / "data" / "metadata.json"
    metadata = json.loads(path.read_text())
    spec = json.loads(metadata["env_spec"])
    wrapper = {"name": "Lost", "entry_point": "lost.package:Lost", "kwargs": None}
    metadata["env_spec"] = json.dumps({**spec, "additional_wrappers": [wrapper]})
    path.write_text(json.dumps(metadata))
    stage = build_group("dataset/minari", [*FOUR_ROOMS, "dataset.id=rooms/walks-v0"])
    run(experiment_of(stage))
    loaded = dtx.load("dataset", stage.label, store=store)
    place, _ = write(loaded, "rooms/more-v0", tmp_path / "sets", "me")
    written = json.loads((place / "data" / "metadata.json").read_text())["env_spec"]
    assert json.loads(written)["additional_wrappers"] == [wrapper]
