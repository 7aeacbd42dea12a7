"""Commands that write outside the store, or replace in it: killed anywhere, the same command completes."""

from __future__ import annotations

import contextlib
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from dtx.cli import main
from dtx.running.runner import run
from tests.dt.toy import Drawn, Recorded
from tests.end_to_end.killed import content, give, spread
from tests.exchange.published.test_convert_dataset import trajectories
from tests.exchange.test_export import Measured
from tests.published import RAW, transformer, write, write_trajectories
from tests.toys import CHAIN, write_chain
from tests.verbs import test_redraw

QUIET = "tracking.enabled=false"
OTHERS = (".locks", ".needed", ".tracking", "done.json", "done.json.partial", "timing.jsonl")
"""Files of a store that differ between equal runs, or are no result.

A kill while a summary is added to a committed done.json leaves the old file and a partial one, unread.
"""
Case = tuple[list[str], Path | None]


def sb3(place: Path, experiment_of) -> Case:
    pytest.importorskip("sb3_contrib")
    from tests.agent.test_sb3 import ROOM, Indices, saved

    return ["import", str(saved(place, wrapper=Indices)[1]), *ROOM, QUIET], None


def published(place: Path, experiment_of) -> Case:
    return ["import", str(write(place / "a.pt", *transformer())), "--as", "theirs", QUIET], None


def played(place: Path, experiment_of) -> Case:
    data = trajectories(actions=trajectories()["actions"] % 3)
    file = write_trajectories(place / "t.gz", data, RAW)
    return ["import", str(file), "--unsafe-pickle", QUIET], None


def handed(place: Path, experiment_of) -> Case:
    (_, label, _, *store), _ = model(place, experiment_of)
    assert main(["export", label, str(place / "given"), *store]) == 0
    return ["import", str(place / "given"), "--config-dir", "mine", QUIET], None


def model(place: Path, experiment_of) -> Case:
    subject, control = (Drawn(dataset=Recorded(), seed=seed) for seed in (0, 1))
    run(experiment_of(Measured(dt=subject, control=control)))
    return ["export", subject.label, "out", "--store", str(place / "store")], None


def into_a_folder_that_is_there(place: Path, experiment_of) -> Case:
    (place / "given" / "out").mkdir(parents=True)
    return model(place, experiment_of)[0], place / "given"


def over_an_earlier_one(place: Path, experiment_of) -> Case:
    command, _ = model(place, experiment_of)
    (place / "given").mkdir()
    before = [*command[:2], str(place / "given" / "out"), *command[3:]]
    assert main([*before, "--licence", "mit"]) == 0
    return [*command, "--force"], place / "given"


def demonstrations(place: Path, experiment_of) -> Case:
    pytest.importorskip("minari")
    from tests.dataset.test_minari import demonstrations

    label = demonstrations(None, experiment_of, episodes=8).label
    return ["export", label, "sets", "--as", "a/b/walks-v0", "--store", str(place / "store")], None


def config(place: Path, experiment_of) -> Case:
    return ["cp", "agent/ppo", "mine", "--as", "sharp"], None


def figures_in_the_store(place: Path, experiment_of) -> Case:
    folder = place / "given"
    (folder / "conf" / "analysis").mkdir(parents=True)
    text = test_redraw.CONFIG.format(name="one", value=1)
    (folder / "conf" / "analysis" / "one.yaml").write_text(text)
    with contextlib.chdir(folder):
        assert main(["run", "analysis=[one]", QUIET]) == 0
    return ["redraw", "analysis=[one]", QUIET], folder


def figures_of_a_sweep(place: Path, experiment_of) -> Case:
    folder = place / "given"
    write_chain(folder / "mine")
    sweep = ["-m", "--config-dir", "mine", *CHAIN, QUIET, "agent.value=1,2", "dt.value=10,20"]
    with contextlib.chdir(folder):
        assert main(["run", *sweep]) == 0
    return ["compare", *sweep, "--out", "shown"], folder


SHORT: list[Callable[..., Case]] = [published, model, demonstrations, config]
"""Of the suite; the others are as slow as their commands."""
CASES = [
    *(*SHORT, sb3, played, handed, into_a_folder_that_is_there, over_an_earlier_one),
    *(figures_in_the_store, figures_of_a_sweep),
]


def check(
    case: Callable[..., Case], place: Path, experiment_of, kills: int, at_random: int = 0
) -> int:
    """Kill, repeat, compare; gives the number of kills.

    Args:
        case: Prepares what the command reads.
        place: A folder to work in.
        experiment_of: The fixture.
        kills: At changes of the file system, from the first to the last.
        at_random: Further ones, at random times.
    """
    command, given = case(place, experiment_of)

    def fresh(name: str) -> Path:
        folder = place / "work" / name
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(given, folder) if given else folder.mkdir(parents=True)
        return folder

    whole = fresh("here")  # always the same path: it may be written somewhere
    first = give(whole, command)
    assert first.status == 0, first.said
    wanted = content(whole, OTHERS)
    again = give(whole, command)
    assert again.status == 0 and content(whole, OTHERS) == wanted, again.said
    chance, delivered = random.Random(0), 0
    moments = [{"at": moment} for moment in spread(first.changes, kills)]
    moments += [{"after": again.seconds * chance.random()} for _ in range(at_random)]
    for moment in moments:
        folder = fresh("here")
        killed = give(folder, command, **moment)
        assert killed.status == -9 or "after" in moment, (moment, killed.said)
        delivered += killed.status == -9
        repeated = give(folder, command)
        where = f"killed at {moment} of {first.changes} changes"
        assert repeated.status == 0, f"{where}: {repeated.said}"
        found = content(folder, OTHERS)
        assert found.keys() == wanted.keys(), where
        assert [n for n in wanted if found[n] != wanted[n]] == [], where
    return delivered


@pytest.mark.parametrize("case", SHORT, ids=lambda case: case.__name__)
def test_the_same_command_completes_after_a_kill(case, tmp_path, experiment_of):
    assert check(case, tmp_path, experiment_of, 3)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_killed_at_many_changes(case, tmp_path, experiment_of, capsys):
    count = check(case, tmp_path, experiment_of, 14, 4)
    assert count >= 12
    with capsys.disabled():
        print(
            f"\n{case.__name__}: {count} kills, 0 files different, each healed by the same command"
        )
