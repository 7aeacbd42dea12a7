"""What counts as a change of a stage's source code."""

import importlib
import re
import shutil
import sys
from pathlib import Path

import pytest

from dtx.config.compose import CONF, build_group
from dtx.running import drift

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
        drift.read_code.cache_clear()
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


def test_another_python_and_another_layout_are_not_compared():
    stage = build_group("agent/ppo")
    recorded = drift.sources(stage)
    assert drift.changed(stage, recorded) == []
    other = {**recorded["files"], "dtx/agent/ppo/__init__.py": "0"}
    assert drift.changed(stage, {**recorded, "files": other}) == ["dtx/agent/ppo/__init__.py"]
    assert drift.changed(stage, {**recorded, "python": "2.7", "files": other}) == []
    assert drift.changed(stage, {**recorded, "layout": drift.LAYOUT + 1, "files": other}) == []
    before_layouts = {"python": recorded["python"], "files": other}
    assert drift.changed(stage, before_layouts) == []
    assert drift.changed(stage, {}) == []


def stage_modules(group: str) -> set[str]:
    """The modules of all stages that the group's YAML names."""
    texts = [path.read_text() for path in (CONF / group).glob("*.yaml")]
    targets = [re.search(r"^_target_: (dtx\.[\w.]+)\.\w+$", text, re.M) for text in texts]
    return {found[1] for found in targets if found}


PACKAGE = Path(drift.__file__).parents[1]
DRAWING = sorted(
    path.relative_to(PACKAGE).as_posix()
    for package in ("analysis", "pairs")
    for name in ("plots", "page", "pages", "*_page", "pictures", "truth")
    for path in (PACKAGE / package).rglob(f"{name}.py")
    if path.relative_to(PACKAGE).as_posix() != "analysis/core/truth.py"
)


@pytest.fixture(scope="module")
def stages_changed_by(tmp_path_factory):
    """A copy of dtx; gives a function that adds a line to files of it and returns whose closures change."""
    root = tmp_path_factory.mktemp("copy")
    shutil.copytree(PACKAGE, root / "dtx", ignore=shutil.ignore_patterns("__pycache__"))
    groups = ("agent", "dataset", "dt", "pairs", "activations", "dictionary", "analysis")
    modules = {module for group in groups for module in stage_modules(group)}
    before = {m: drift.closure(m, root) for m in modules}

    def changed(*names: str) -> set[str]:
        texts = {root / "dtx" / name: (root / "dtx" / name).read_text() for name in names}
        for path, text in texts.items():
            path.write_text(f"{text}\nADDED = 1\n")
        drift.read_code.cache_clear()
        after = {m: drift.closure(m, root) for m in modules}
        for path, text in texts.items():
            path.write_text(text)
        return {m for m in modules if before[m] != after[m]}

    assert len(modules) > 25
    return changed


def test_drawing_and_carrying_are_no_part_of_any_closure(stages_changed_by):
    assert {"pairs/pictures.py", "analysis/lens/plots.py"} <= set(DRAWING)
    assert stages_changed_by(*DRAWING, "figures.py", "report.py", "config/build.py") == set()


def test_the_models_code_is_part_of_training_and_of_analyses(stages_changed_by):
    changed = stages_changed_by("dt/model.py")
    assert {"dtx.dt.decision_transformer", "dtx.analysis.lens", "dtx.analysis.teacher"} <= changed
    assert not {m for m in changed if m.startswith(("dtx.agent", "dtx.dataset"))}


def test_an_analysis_own_code_is_part_of_it(stages_changed_by):
    changed = stages_changed_by("analysis/lens/compute.py")
    assert "dtx.analysis.lens" in changed
    assert not {m for m in changed if not m.startswith("dtx.analysis")}
