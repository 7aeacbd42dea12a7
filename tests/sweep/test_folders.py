"""Folders of a sweep: only of jobs that have something to run, never one for two."""

import pytest
from omegaconf import OmegaConf

from dtx.errors import UserError
from dtx.sweep.folders import make_folders
from dtx.sweep.grid import read_sweep

SWEEP = ["target=agent", "agent.lr=1e-3,2e-3,3e-3"]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_jobs_have_their_numbers_and_sweeps_a_folder_each(here):
    sweep = read_sweep(SWEEP)
    first, second = make_folders(sweep, [0, 2]), make_folders(sweep, [1])
    assert first.jobs == {0: first.sweep / "0", 2: first.sweep / "2"}
    assert first.sweep != second.sweep and second.jobs == {1: second.sweep / "1"}
    assert first.sweep.parents[2] == here
    hydra = OmegaConf.load(first.sweep / "multirun.yaml").hydra
    assert list(hydra.overrides.task) == SWEEP


def test_names_are_resolved_with_the_jobs_own_values(here):
    named = ["hydra.sweep.dir=many/${now:%Y}", "hydra.sweep.subdir=lr_${agent.lr}_${hydra:job.num}"]
    folders = make_folders(read_sweep([*SWEEP, *named]), [1, 2])
    assert {n: p.name for n, p in folders.jobs.items()} == {1: "lr_0.002_1", 2: "lr_0.003_2"}
    assert folders.sweep.parent == here / "many" and len(folders.sweep.name) == 4
    assert folders.settings["output_subdir"] == ".hydra"
    assert folders.settings["overrides.hydra"] == named


def test_one_folder_for_two_jobs_is_refused_before_anything_is_made(here):
    sweep = read_sweep([*SWEEP, "hydra.sweep.subdir=${agent.frames}"])
    with pytest.raises(UserError, match="jobs 0 and 2 would both write to"):
        make_folders(sweep, [0, 2])
    assert not list(here.iterdir())
