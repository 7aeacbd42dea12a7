"""What counts as a change of a stage's source code."""

import importlib
import sys

import pytest

from dtx.config.compose import build_group
from dtx.run import drift

STAGE = '''"""A stage."""
from dataclasses import dataclass
from dtx.stage import Stage

@dataclass(frozen=True, kw_only=True)
class Mine(Stage):
    """It does something."""
    n: int
    def run(self, out):
        from lab.tools import double  # only when needed
        (out / "n.txt").write_text(str(double(self.n)))
'''
TOOLS = "def double(x):\n    return x * 2\n"


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """A user's package; gives a function that writes its files and reads the stage's sources."""
    (tmp_path / "lab").mkdir()
    monkeypatch.syspath_prepend(tmp_path)

    def sources(stage: str = STAGE, tools: str = TOOLS) -> dict:
        (tmp_path / "lab" / "__init__.py").write_text("")
        (tmp_path / "lab" / "mine.py").write_text(stage)
        (tmp_path / "lab" / "tools.py").write_text(tools)
        (tmp_path / "lab" / "unrelated.py").write_text("x = 1\n")
        for name in ("lab", "lab.mine"):
            sys.modules.pop(name, None)
        importlib.invalidate_caches()
        drift._read.cache_clear()
        return drift.sources(importlib.import_module("lab.mine").Mine(n=1))

    yield sources
    for name in ("lab", "lab.mine"):
        sys.modules.pop(name, None)


def test_the_stage_and_what_it_imports_from_its_package_count(lab):
    assert set(lab()["files"]) == {"lab/mine.py", "lab/tools.py"}


def test_cosmetic_edits_do_not_count(lab):
    edited = STAGE.replace('"""It does something."""', '"""Other words."""').replace(
        "    n: int\n", "    n:    int  # how many\n\n"
    )
    assert lab() == lab(stage=edited)


def test_code_counts_in_the_stage_and_in_what_it_imports(lab):
    before = lab()["files"]
    assert before["lab/tools.py"] != lab(tools=TOOLS.replace("* 2", "* 3"))["files"]["lab/tools.py"]
    assert (
        before["lab/mine.py"] != lab(stage=STAGE.replace("str(", "repr("))["files"]["lab/mine.py"]
    )


def test_of_dtx_only_what_computes_counts():
    files = drift.sources(build_group("dt/memory_dt"))["files"]
    assert {"dtx/dt/decision_transformer.py", "dtx/dt/model.py", "dtx/training/fit.py"} <= set(
        files
    )
    assert not {
        "dtx/store/store.py",
        "dtx/report.py",
        "dtx/stage.py",
        "dtx/tracking/server.py",
    } & set(files)


def test_another_python_is_not_compared():
    stage = build_group("agent/ppo")
    recorded = drift.sources(stage)
    assert drift.changed(stage, recorded) == []
    other = {**recorded["files"], "dtx/agent/ppo/__init__.py": "0"}
    assert drift.changed(stage, {**recorded, "files": other}) == ["dtx/agent/ppo/__init__.py"]
    assert drift.changed(stage, {"python": "2.7", "files": other}) == []
