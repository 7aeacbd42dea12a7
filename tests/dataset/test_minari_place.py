"""Minari datasets whose content is somewhere else, and how datasets come to their place."""

import shutil
from pathlib import Path

import numpy as np
import pytest

import dtx
from dtx.config.compose import build_group
from dtx.dataset.minari import place
from dtx.dataset.minari.write import write as export
from dtx.errors import UserError
from dtx.running.runner import run

minari = pytest.importorskip("minari")
h5py = pytest.importorskip("h5py")

from tests.dataset.test_minari import (  # noqa: E402
    FOUR_ROOMS,
    four_rooms,
    no_datasets_at_home,
)

__all__ = ["four_rooms", "no_datasets_at_home"]  # fixtures

SECRET = bytes(range(200))


@pytest.fixture
def dataset(four_rooms, tmp_path) -> Path:
    """Folder of a dataset, with a file of other content beside all datasets."""
    (tmp_path / "secret").write_bytes(SECRET)
    with h5py.File(tmp_path / "secret.hdf5", "w") as other:
        other["actions"] = np.arange(9)
        other["group/actions"] = np.arange(9)
    return tmp_path / "home" / "rooms" / "walks-v0"


def taken(name: str) -> None:
    run_one(build_group("dataset/minari", [*FOUR_ROOMS, f"dataset.id={name}"]))


def run_one(stage) -> None:
    from dtx.dataset.minari.read import write

    write(stage, Path.cwd(), "label")


def external_storage(file, tmp_path):
    del file["episode_0/actions"]
    stored = [(str(tmp_path / "secret"), 0, 72)]
    file["episode_0"].create_dataset("actions", (9,), np.int64, external=stored)


def external_storage_of_a_piece_of_information(file, tmp_path):
    file["episode_1/infos"].create_dataset(
        "more", (9,), np.uint8, external=[(str(tmp_path / "secret"), 0, 9)]
    )


def external_link(file, tmp_path):
    del file["episode_0/actions"]
    file["episode_0/actions"] = h5py.ExternalLink(str(tmp_path / "secret.hdf5"), "actions")


def external_link_to_a_group(file, tmp_path):
    del file["episode_2/infos"]
    file["episode_2/infos"] = h5py.ExternalLink(str(tmp_path / "secret.hdf5"), "group")


def external_link_to_nothing(file, tmp_path):
    file["episode_0/more"] = h5py.ExternalLink("none.hdf5", "actions")


def soft_link(file, tmp_path):
    del file["episode_0/actions"]
    file["episode_0/actions"] = h5py.SoftLink("/episode_1/actions")


def virtual(file, tmp_path):
    del file["episode_0/actions"]
    layout = h5py.VirtualLayout((9,), np.int64)
    layout[:] = h5py.VirtualSource(str(tmp_path / "secret.hdf5"), "actions", (9,))
    file["episode_0"].create_virtual_dataset("actions", layout)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (external_storage, "/episode_0/actions has its numbers in another file"),
        (external_storage_of_a_piece_of_information, "/episode_1/infos/more has its numbers in"),
        (external_link, "/episode_0/actions is a link"),
        (external_link_to_a_group, "/episode_2/infos is a link"),
        (external_link_to_nothing, "/episode_0/more is a link"),
        (soft_link, "/episode_0/actions is a link"),
        (virtual, "/episode_0/actions is put together from other datasets"),
    ],
)
def test_content_in_another_file_is_refused_by_name(
    dataset, tmp_path, monkeypatch, change, message
):
    monkeypatch.chdir(tmp_path)
    with h5py.File(dataset / "data" / "main_data.hdf5", "a") as file:
        change(file, tmp_path)
    with pytest.raises(UserError, match=message):
        taken("rooms/walks-v0")
    assert not list(tmp_path.glob("*.arrow"))


def test_a_group_that_holds_itself_does_not_hang(dataset):
    with h5py.File(dataset / "data" / "main_data.hdf5", "a") as file:
        file["episode_0/infos/again"] = file["episode_0"]
    place.refuse_outside(dataset)


@pytest.mark.parametrize(
    "name", [".", "data", "data/main_data.hdf5", "data/metadata.json", "data/more"]
)
def test_links_in_a_dataset_are_refused(dataset, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    real = tmp_path / "real"
    path = dataset / name
    path.rename(real) if path.exists() else real.write_text("x")
    (dataset.parent / "walks-v0" / name if name != "." else dataset).symlink_to(real)
    with pytest.raises(UserError, match="is a link, and dtx reads only"):
        taken("rooms/walks-v0")


def test_a_damaged_file_is_one_line(dataset, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = dataset / "data" / "main_data.hdf5"
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(UserError, match=r"main_data.hdf5: is damaged \("):
        taken("rooms/walks-v0")


def test_a_download_arrives_whole_or_not_at_all(dataset, tmp_path, monkeypatch):
    """Minari's own download writes where it reads; the network is a folder here."""
    monkeypatch.chdir(tmp_path)
    server = tmp_path / "server"
    dataset.parent.rename(server)

    def download(name: str, half: bool = False) -> None:
        target = place.place_of(name)
        (target / "data").mkdir(parents=True)
        shutil.copy(server / "namespace_metadata.json", target.parent)
        shutil.copy(server / "walks-v0" / "data" / "metadata.json", target / "data")
        if half:
            raise ConnectionError("cut")
        shutil.copy(server / "walks-v0" / "data" / "main_data.hdf5", target / "data")

    fetched = [*FOUR_ROOMS, "dataset.id=rooms/walks-v0", "dataset.download=true"]
    monkeypatch.setattr(minari, "download_dataset", lambda name: download(name, half=True))
    with pytest.raises(UserError, match="Minari cannot open it: ConnectionError: cut"):
        run_one(build_group("dataset/minari", fetched))
    assert not [p for p in (tmp_path / "home").rglob("*") if p.is_file()]
    monkeypatch.setattr(minari, "download_dataset", download)
    for _ in range(2):
        run_one(build_group("dataset/minari", fetched))
    assert {p.name for p in (tmp_path / "home" / "rooms").iterdir()} == {
        "namespace_metadata.json",
        "walks-v0",
    }


def test_a_disk_that_is_too_full_is_told_before_anything_is_written(
    store, experiment_of, tmp_path, monkeypatch, four_rooms
):
    stage = build_group("dataset/minari", [*FOUR_ROOMS, "dataset.id=rooms/walks-v0"])
    run(experiment_of(stage))
    loaded = dtx.load("dataset", stage.label, store=store)
    monkeypatch.setattr("dtx.dataset.minari.write.free_disk", lambda place: 15_000.0)
    with pytest.raises(UserError, match=r"takes about .* and 15 kB are free; make room there"):
        export(loaded, "rooms/more-v0", tmp_path / "sets", "me")
    assert not list((tmp_path / "sets").rglob("*.hdf5"))
