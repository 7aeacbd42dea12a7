"""Every code block of the documentation runs."""

import os
import shutil
import sys
from pathlib import Path

import pytest

from dtx.store.store import Store, used
from tests.docs.pages import PAGES, ROOT, Block, Runner, blocks, dtx, let_dtx_find, shrink
from tests.once import once

NAMES = [str(path.relative_to(ROOT)) for path in PAGES]
RUN_IN_FAST_TESTS = ("docs/index.md",)
"""Their commands run, all but sweeps; those of other pages are planned, and run in the slow tests."""
EXCUSED = 11
"""Blocks with a reason not to be run; more need a good one."""


@pytest.fixture(scope="session")
def small(tmp_path_factory) -> Path:
    """dtx's configs with small numbers."""
    folder = tmp_path_factory.mktemp("small") / "conf"
    shrink(ROOT / "conf", folder)
    return folder


@pytest.fixture
def page(small, tmp_path, monkeypatch):
    """An empty working directory, in which dtx finds the small configs."""
    let_dtx_find(small, monkeypatch)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setattr(sys, "path", list(sys.path))
    modules = set(sys.modules)
    with used(Store("store")):
        yield tmp_path
    for name in set(sys.modules) - modules:
        file = getattr(sys.modules[name], "__file__", None)
        if file and Path(file).is_relative_to(tmp_path):
            del sys.modules[name]


@pytest.fixture
def trained(page, tmp_path_factory, capsys) -> None:
    """A store beside the page: the quick start, psychology, the default DT; made once for all workers."""

    def make(folder: Path) -> None:
        everything = "analysis=[demonstrations,calibration,psychology]"
        for what in (["experiment=quickstart", everything], ["target=dt"]):
            code, told = dtx(["run", *what, "tracking.enabled=false"], capsys)
            assert code == 0, told
        shutil.move("store", folder)

    made = once(tmp_path_factory, "documentation_store", make)
    shutil.copytree(made, "store", copy_function=os.link)


def run_page(name: str, capsys, really: bool, sweeps: bool) -> None:
    runner = Runner(really, sweeps)
    for block in blocks((ROOT / name).read_text()):
        try:
            runner.run(block, capsys)
        except BaseException as error:
            error.add_note(f"in {name}, line {block.line}")
            raise


@pytest.mark.parametrize("name", NAMES)
def test_blocks_of_a_page_run(name, trained, capsys):
    """Commands that only look, Python and YAML as they stand; ``dtx run`` on the first page."""
    run_page(name, capsys, really=name in RUN_IN_FAST_TESTS, sweeps=False)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", [n for n in NAMES if "dtx run" in (ROOT / n).read_text()])
def test_every_run_of_a_page_runs(name, trained, capsys):
    run_page(name, capsys, really=True, sweeps=True)


def test_few_blocks_are_not_run_and_each_has_a_language():
    every = [(n, b) for n in NAMES for b in blocks((ROOT / n).read_text())]
    assert len(every) > 60
    assert all(block.language for _, block in every)
    assert len([b for _, b in every if b.excuse]) <= EXCUSED


WRONG = {
    "an option that is not there": "```sh\ndtx plan dt=smal\n```\n",
    "a field that is not there": "```sh\ndtx run agent.lrr=1\n```\n",
    "a verb that is not there": "```sh\ndtx rum\n```\n",
    "a target that is not there": "```sh\nmake runs\n```\n",
    "an extra that is not there": "```sh\npip install 'dtx[minary]'\n```\n",
    "a script that is not there": "```sh\npython docs/galery.py\n```\n",
    "another program": "```sh\nrm -rf store\n```\n",
    "Python that fails": "```python\nimport dtx\ndtx.load('dt', 'memory')\n```\n",
    "a value that no stage takes": (
        "**`conf/dt/mine.yaml`**\n\n```yaml\ndefaults: [small@_here_, _self_]\nsteps: many\n```\n"
    ),
    "YAML of no file": "```yaml\nsteps: 3\n```\n",
    "no language": "```\ndtx ls\n```\n",
    "an error that dtx words otherwise": (
        "```console\n$ dtx plan dt=smal\ndtx: error: dt: no such option\n```\n"
    ),
    "an error that is none": "```console\n$ dtx plan dt=small\ndtx: error: dt: no such option\n```\n",
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_block_fails(what, page, capsys):
    from dtx.errors import UserError

    (block,) = blocks(WRONG[what])
    with pytest.raises((AssertionError, UserError)):
        Runner(really=False, sweeps=False).run(block, capsys)


def test_what_is_read_from_a_page():
    first, second = blocks(
        "Write\n\n**`a/b.yaml`**: with `x`.\n\n```yaml\nv: 1\n```\n\n"
        "<!-- not run: a reason -->\n```sh\nls\n```\n"
    )
    assert first == Block("yaml", "v: 1\n", 5, "a/b.yaml", None)
    assert second == Block("sh", "ls\n", 10, None, "a reason")


def test_small_configs_are_small_and_have_the_same_fields(small):
    from omegaconf import OmegaConf

    for path in sorted((ROOT / "conf").rglob("*.yaml")):
        full, tiny = OmegaConf.load(path), OmegaConf.load(small / path.relative_to(ROOT / "conf"))
        assert set(full) == set(tiny), path
    assert OmegaConf.load(small / "dt" / "memory_dt.yaml").steps == 8
    assert OmegaConf.load(small / "experiment" / "quickstart.yaml").dataset.episodes == 80
