import os
import subprocess
import sys
from pathlib import Path

import pytest

from dtx.verbs.completion import complete, split

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working directory with a store, a config of one's own and a few folders."""
    for name in ("store/ppo-aa11", "store/.work/dt-bb22", "store/.locks", "mine/agent", "main"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "store" / ".runs").mkdir()
    (tmp_path / "store" / ".runs" / "sweep.json").write_text("{}")
    (tmp_path / "mine" / "agent" / "own.yaml").write_text("lr: 1\n")
    (tmp_path / "expected.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("dtx re", ["redraw ", "reproduce "]),
        ("dtx ", None),
        ("dtx run dt=me", ["dt=memory_dt ", "dt=memory_dt_26 ", "dt=memory_dt_study "]),
        ("dtx run experiment=q", ["experiment=quickstart "]),
        ("dtx plan agent.l", ["agent.lr=", "agent.lr_end="]),
        ("dtx run agent.lr", ["agent.lr=", "agent.lr_end="]),
        ("dtx run analysis.calib", ["analysis.calibration."]),
        ("dtx run dt=small dt.model.d_mo", ["dt.model.d_model="]),
        ("dtx run dt=small dt.model.d_model=", ["dt.model.d_model=128 "]),
        ("dtx run -m dt=small,memory_dt_s", ["dt=small,memory_dt_study"]),
        ("dtx run --multirun agent.see", ["agent.seed="]),
        ("dtx run -m dt.seed=0,1 agent.see", ["agent.seed="]),
        (
            "dtx run 'analysis=[calib",
            [f"analysis=[calibration{end}" for end in ("", "_given", "_quick")],
        ),
        ("dtx run analysis=[calibration,demo", ["analysis=[calibration,demonstrations"]),
        ("dtx run nonsense=1 agent.see", ["agent.seed="]),
        (
            "dtx run --config-dir mine agent=",
            [f"agent={name} " for name in ("imported", "own", "ppo", "quick", "sb3")],
        ),
        ("dtx run --config-dir=mine agent=o", ["agent=own "]),
        ("dtx run --config-dir nowhere agent=p", ["agent=ppo "]),
        ("dtx run --config-dir m", ["main/", "mine/"]),
        ("dtx run --config-dir=mi", ["--config-dir=mine/"]),
        ("dtx run --multi", ["--multirun "]),
        ("dtx gc --del", ["--delete "]),
        ("dtx gc --keep x pp", ["ppo-aa11 "]),
        ("dtx gc --keep x --older", ["--older "]),
        ("dtx gc --forget ", ["sweep "]),
        ("dtx invalidate ", ["dt-bb22 ", "ppo-aa11 "]),
        ("dtx invalidate --store mine ", []),
        ("dtx ls exp", ["experiment "]),
        ("dtx cp dt/sm", ["dt/small "]),
        ("dtx cp dt/small m", ["main/", "mine/"]),
        ("dtx reproduce memory_dt_s", ["memory_dt_study "]),
        ("dtx reproduce memory_dt on_dr", ["on_drift="]),
        ("dtx reproduce memory_dt --expected e", ["expected.json "]),
        ("dtx run store.path=st", ["store.path=store/"]),
        ("dtx completion z", ["zsh "]),
        ("dtx completion --q", []),
        ("dtx nosuchverb ", []),
        ("dtx", []),
        ("", []),
    ],
)
def test_candidates(folder, line, wanted):
    found = complete(line)
    if wanted is None:
        assert {"run ", "plan ", "gc "} <= set(found)
    else:
        assert found == wanted


def test_configs_of_ones_own_in_conf_are_offered_without_a_flag(folder):
    (folder / "mine").rename(folder / "conf")
    assert complete("dtx run agent=o") == ["agent=own "]
    assert complete("dtx cp agent/o") == ["agent/own "]


def test_hydras_own_config_shows_only_when_asked_for():
    assert not [c for c in complete("dtx run ") if "hydra" in c or "_target_" in c]
    assert "hydra.sweep." in complete("dtx run hydra.sw")
    assert not [c for c in complete("dtx run agent.") if "_target_" in c]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("dtx run ", ["dtx", "run", ""]),
        ("dtx run a", ["dtx", "run", "a"]),
        ("dtx run 'a b", ["dtx", "run", "a b"]),
        ('dtx run "a=[', ["dtx", "run", "a=["]),
        ("dtx run a\\ b", ["dtx", "run", "a b"]),
        ("dtx run 'a'\"b", ["dtx", "run", "ab"]),
    ],
)
def test_words_of_a_line_that_is_being_typed(line, words):
    assert split(line) == words


def test_a_query_imports_nothing_heavy():
    script = (
        "import sys; from dtx.cli import main; main(['completion', '--query', 'dtx run agent.l']); "
        "heavy = {'torch', 'pandas', 'mlflow', 'matplotlib', 'envpool'} & set(sys.modules); "
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["agent.lr=", "agent.lr_end="]
