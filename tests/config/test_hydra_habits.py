"""What users of Hydra are used to, as docs/hydra.md tells it: each row of its tables is a test."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from hydra import __version__ as version_of_hydra
from omegaconf import OmegaConf

from dtx import __version__
from dtx.cli import main
from tests.toys import CHAIN, write_chain

QUIET = "tracking.enabled=false"
PAGE = (Path(__file__).parents[2] / "docs" / "hydra.md").read_text()
for real, toy in {
    "dt.steps": "dt.value",
    "agent.frames": "agent.value",
    "glob(memory*)": "glob(toy*)",
    "dt=mine": "dt=toy",
    "dt/mine.yaml": "dt/toy.yaml",
}.items():
    PAGE = PAGE.replace(real, toy)  # the page speaks of real fields, the test has small ones
GLOBAL = "# @package _global_\n"
FILES = {
    "conf/config.yaml": "seed: 3\n",
    "conf/experiment/quickstart.yaml": f"{GLOBAL}name: mine\n",
    "more/dt/toy.yaml": "_target_: tests.toys.Link\nbefore: null\nvalue: 9\nfail: false\n",
    "conf/experiment/verbose.yaml": f"{GLOBAL}hydra: {{verbose: true}}\n",
    "conf/experiment/many.yaml": f"{GLOBAL}hydra: {{mode: MULTIRUN}}\n",
}
"""Files that a row speaks of, by their place."""


def rows(title: str) -> dict[str, str]:
    """A table of the page: what stands in its two columns."""
    section = PAGE.split(f"## {title}\n")[1].split("\n## ")[0]
    lines = re.findall(r"^\| (`.*) \| (.*) \|$", section, re.M)
    assert len({habit for habit, _ in lines}) == len(lines) > 20
    return dict(lines)


def words(habit: str) -> list[str]:
    return shlex.split(re.findall(r"`([^`]+)`", habit)[0])


@pytest.fixture
def here(tmp_path, monkeypatch, logging_as_before) -> Path:
    """A user's folder."""
    write_chain(tmp_path / "conf")
    (tmp_path / "conf" / "experiment").mkdir()
    (tmp_path / "conf" / "experiment" / "mine.yaml").write_text(f"{GLOBAL}name: mine\n")
    (tmp_path / "more" / "dt").mkdir(parents=True)
    extra = (tmp_path / "conf" / "dt" / "toy.yaml").read_text()
    (tmp_path / "more" / "dt" / "extra.yaml").write_text(extra)
    (tmp_path / "conf" / "dt" / "toy_again.yaml").write_text(extra)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def give(command: list[str], capsys) -> tuple[int, str, str]:
    """Give a command for the toy chain: exit status, what was printed, and lines for the user."""
    _, verb, *rest = command
    capsys.readouterr()
    given = {word.split("=")[0] for word in rest if "=" in word}
    status = main([verb, *(o for o in CHAIN if o.split("=")[0] not in given), *rest, QUIET])
    said = capsys.readouterr()
    assert "Traceback" not in said.out
    return status, said.out, said.err


@pytest.mark.parametrize("habit", rows("What is refused"))
def test_what_is_refused_is_one_line_that_says_what_to_do(here, capsys, habit):
    command, *files = re.findall(r"`([^`]+)`", habit)
    for name in files:
        path = here / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(FILES[name])
    status, out, error = give(shlex.split(command), capsys)
    assert (status, out) == (2, "")
    assert error.splitlines() == [rows("What is refused")[habit].strip("`")]
    assert not list(here.glob("store/toys-*")) and not list(here.glob("*/20*"))


# --- what works --------------------------------------------------------------------------------------


def files(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


CONFIG = {f".hydra/{name}.yaml" for name in ("config", "hydra", "overrides")}
RUN = {"dtx.log", *CONFIG}


def only(pattern: str, here: Path) -> Path:
    (found,) = here.glob(pattern)
    return found


def a_run(here: Path, out: str, error: str) -> None:
    folder = only("outputs/*/*", here)
    assert files(folder) == RUN
    log = (folder / "dtx.log").read_text()
    assert "5 of 5 stages ran" in log and "toys" in log
    assert f"log: {folder.relative_to(here)}/dtx.log" in error
    assert "before: ${dataset}" in (folder / ".hydra/config.yaml").read_text()
    hydra = OmegaConf.load(folder / ".hydra/hydra.yaml").hydra
    assert hydra.runtime.output_dir == str(folder) and hydra.runtime.choices.dt == "toy"
    assert list(OmegaConf.load(folder / ".hydra/overrides.yaml")) == [*CHAIN, QUIET]


def named(here: Path, out: str, error: str) -> None:
    assert files(here / "here") == RUN and not (here / "outputs").exists()


def resolved(here: Path, out: str, error: str) -> None:
    assert files(only("by/20*_agent=toy,*", here)) == RUN


def without_config(here: Path, out: str, error: str) -> None:
    assert files(only("outputs/*/*", here)) == {"dtx.log"}


def named_log(here: Path, out: str, error: str) -> None:
    assert files(only("outputs/*/*", here)) == {"mine.log", *CONFIG}


def job(folder: Path, number: int, override: str) -> None:
    """A job's folder says what the job was, not what the launcher was told."""
    assert files(folder) == RUN
    hydra = OmegaConf.load(folder / ".hydra/hydra.yaml").hydra
    assert hydra.job.num == number and hydra.runtime.output_dir == str(folder)
    assert hydra.output_subdir == ".hydra" and "${hydra.job.num}" in str(hydra)
    assert override in OmegaConf.load(folder / ".hydra/overrides.yaml")
    assert "starts" in (folder / "dtx.log").read_text()


def a_sweep(here: Path, out: str, error: str) -> None:
    folder = only("multirun/*/*", here)
    assert f"logs: {folder.relative_to(here)}" in error
    others = {"shared", "multirun.yaml", "sweep.json"}
    assert {p.name for p in folder.iterdir()} == {*"0123", *others}
    for number in range(4):
        job(folder / str(number), number, f"dt.value={number + 1}")
        config = OmegaConf.load(folder / str(number) / ".hydra/config.yaml")
        assert config.dt.value == number + 1
    logs = files(folder / "shared")
    assert len(logs) == 2 and all(re.fullmatch(r"toys-\w+/dtx.log", log) for log in logs)


def named_jobs(here: Path, out: str, error: str) -> None:
    jobs = {"0_1", "1_2", "multirun.yaml", "sweep.json"}
    assert {p.name for p in (here / "many").iterdir()} == jobs
    assert files(here / "many" / "1_2") == RUN


def jobs_by_overrides(here: Path, out: str, error: str) -> None:
    assert files(only("multirun/*/*/agent.value=1", here)) == RUN
    assert files(only("multirun/*/*/agent.value=2", here)) == RUN


def two_jobs(here: Path, out: str, error: str) -> None:
    folder = only("multirun/*/*", here)
    assert {p.name for p in folder.iterdir() if p.is_dir() and p.name[0] != "."} == {"0", "1"}
    job(folder / "1", 1, "agent.value=2")


def planned(number: int) -> Callable[[Path, str, str], None]:
    def check(here: Path, out: str, error: str) -> None:
        assert f"{number} jobs over dt" in out and not error

    return check


def five(here: Path, out: str, error: str) -> None:
    assert "5 toys to run" in out and not error


def shows_a_part(here: Path, out: str, error: str) -> None:
    assert "_target_: tests.toys.Link" in out and "analysis" not in out


def shows_the_path(here: Path, out: str, error: str) -> None:
    assert f"file://{here}/conf" in out


def explains(here: Path, out: str, error: str) -> None:
    assert "hydra.run.dir" in out and "hydra.callbacks" in out
    assert "experimental-rerun" not in out  # no flag that is refused


def versions(here: Path, out: str, error: str) -> None:
    assert out == f"dtx {__version__}, Hydra {version_of_hydra}\n"


SWEEP = "dtx run -m target=agent agent.value=1,2"
_ALWAYS = "agent,dataset,dt,analysis,target,tracking.enabled"
LEFT_OUT = f"hydra.job.config.override_dirname.exclude_keys=[{_ALWAYS}]"
WORKS: dict[str, Callable[[Path, str, str], None]] = {
    "dtx run": a_run,
    "dtx run hydra.run.dir=here": named,
    "dtx run hydra.run.dir=by/${now:%Y}_${hydra.job.override_dirname}": resolved,
    "dtx run hydra.output_subdir=null": without_config,
    "dtx run hydra.job.name=mine": named_log,
    "dtx run -m dt.value=1,2,3,4": a_sweep,
    f"{SWEEP} hydra.sweep.dir=many hydra.sweep.subdir=${{hydra.job.num}}_${{agent.value}}": named_jobs,
    f"{SWEEP} hydra.sweep.subdir=${{hydra.job.override_dirname}} {LEFT_OUT}": jobs_by_overrides,
    "dtx run hydra.mode=MULTIRUN target=agent agent.value=1,2": two_jobs,
    "dtx run --run": a_run,
    f"{SWEEP} hydra/launcher=joblib hydra.launcher.n_jobs=2": two_jobs,
    "dtx plan -m dt.value=choice(1,2)": planned(2),
    "dtx plan -m target=dt dt=glob(toy*)": planned(2),
    "dtx plan name='a, b'": five,
    "dtx plan name=${oc.env:HOME}": five,
    "dtx plan ++dt.value=3": five,
    "dtx plan experiment=mine": five,
    "dtx plan dt=extra hydra.searchpath=[file://more]": five,
    "dtx plan -cd conf": five,
    "dtx run --cfg job --package dt": shows_a_part,
    "dtx run --info searchpath": shows_the_path,
    "dtx run --hydra-help": explains,
    "dtx run --version": versions,
}
"""What is seen after each command of the page's table."""
OF_THE_SHELL = "HYDRA_FULL_ERROR=1 dtx plan dt.value=x"


def test_every_row_has_a_test():
    assert {" ".join(words(habit)) for habit in rows("What works")} == {*WORKS, OF_THE_SHELL}


@pytest.mark.parametrize("command", [words(h) for h in rows("What works")][:-1], ids=" ".join)
def test_what_works_does_what_the_page_says(here, capsys, command):
    status, out, error = give(command, capsys)
    assert status == 0, error
    WORKS[" ".join(command)](here, out, error)


def test_full_errors_have_a_traceback_and_the_line(here, capsys, monkeypatch):
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    assert main(["plan", *CHAIN, "dt.value=x"]) == 2
    error = capsys.readouterr().err
    assert "Traceback" in error and error.splitlines()[-1].startswith("dtx: error: dt.value: ")


def test_a_run_that_finds_everything_writes_nothing(here, capsys):
    assert give(["dtx", "run", "hydra.run.dir=first"], capsys)[0] == 0
    status, _, error = give(["dtx", "run", "hydra.run.dir=second"], capsys)
    assert status == 0 and "nothing ran: nothing is written to second" in error
    assert give(["dtx", "run"], capsys)[0] == 0
    assert give(["dtx", "run", "-m", "agent.value=0", "target=agent"], capsys)[0] == 0
    assert files(here / "first") == RUN
    assert not any((here / name).exists() for name in ("second", "outputs", "multirun"))


def test_a_failure_is_in_the_log_and_a_named_folder_is_gone_on_with(here, capsys):
    assert give(["dtx", "run", "hydra.run.dir=one", "dataset.fail=true"], capsys)[0] == 2
    assert "dtx: error: told to fail at 0" in (here / "one" / "dtx.log").read_text()
    assert give(["dtx", "run", "hydra.run.dir=one"], capsys)[0] == 0
    log = (here / "one" / "dtx.log").read_text()
    assert log.index("told to fail") < log.index("4 of 5 stages ran")


def test_two_runs_of_one_second_have_a_folder_each(here, capsys, monkeypatch):
    time = "dtx.running.output._DEFAULT"  # as if the clock stood still
    monkeypatch.setattr(time, "outputs/now")
    for value in ("1", "2"):
        words = ["dtx", "run", "hydra.run.dir=outputs/now", "target=agent", f"agent.value={value}"]
        assert give(words, capsys)[0] == 0
    assert files(here / "outputs" / "now") == files(here / "outputs" / "now-2") == RUN


@pytest.mark.parametrize("sweep", [False, True])
def test_no_file_holds_a_password(here, capsys, sweep):
    (here / "remote").mkdir()
    secrets = [
        "tracking.uri=postgresql://me:hunter2@nowhere/db",
        "name='https://me:hunter2@nowhere/?token=hunter2'",
    ]
    command = ["-m", "agent.value=1,2"] if sweep else []
    assert give(["dtx", "run", *command, "target=agent", *secrets], capsys)[0] == 0
    written = [p for p in here.rglob("*") if p.is_file() and "store" not in p.parts]
    assert any(
        ".hydra" in p.parts and "postgresql://***@nowhere/db" in p.read_text() for p in written
    )
    assert not [p for p in written if "hunter2" in p.read_text(errors="replace")]


def test_a_preset_names_folders_and_launcher(here, capsys):
    (here / "conf/experiment/mine.yaml").write_text(
        f"{GLOBAL}defaults:\n  - override /hydra/launcher: joblib\n"
        "hydra:\n  run: {dir: one}\n  sweep: {dir: many, subdir: 'job_${hydra.job.num}'}\n"
        "  launcher: {n_jobs: 1}\n  sweeper: {params: {agent.value: '1,2'}}\n"
    )
    preset = ["experiment=mine", "target=agent"]
    assert give(["dtx", "run", *preset], capsys)[0] == 0
    assert files(here / "one") == RUN
    assert give(["dtx", "run", "-m", *preset], capsys)[0] == 0
    assert files(here / "many/job_0") == files(here / "many/job_1") == RUN
    hydra = OmegaConf.load(here / "many/job_1/.hydra/hydra.yaml").hydra
    assert hydra.launcher._target_.endswith("JoblibLauncher") and hydra.launcher.n_jobs == 1


def test_a_folder_of_any_name_will_do(here, capsys, monkeypatch):
    odd = here / "it's ${x} [1] a=b"
    (here / "conf").rename(here / "mine")
    odd.mkdir()
    monkeypatch.chdir(odd)
    command = ["--config-dir", "../mine", "target=agent"]
    assert give(["dtx", "run", *command], capsys)[0] == 0
    assert give(["dtx", "run", "-m", *command, "agent.value=1,2"], capsys)[0] == 0
    assert files(only("outputs/*/*", odd)) == files(only("multirun/*/*/1", odd)) == RUN


def test_a_place_that_cannot_be_written_is_one_line(here, capsys):
    (here / "file").write_text("")
    for words in (
        ["hydra.run.dir=file/x"],
        ["-m", "agent.value=1,2", "hydra.sweep.dir=file/x"],
        ["-m", "agent.value=1,2", "hydra.sweep.subdir=${hydra.job.num}" + "x" * 300],
        ["hydra.run.dir=${nothing}"],
        ["hydra.job.name=a/b"],
    ):
        status, _, error = give(["dtx", "run", "target=agent", *words], capsys)
        (line,) = error.splitlines()
        assert status == 2 and line.startswith("dtx: error: ") and "hydra." in line
