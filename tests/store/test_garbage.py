import functools
import json
import multiprocessing
import os
import time

import pytest

from dtx.errors import UserError
from dtx.running.runner import run
from dtx.store import garbage
from dtx.store.garbage import collect, reached_by_presets
from dtx.store.inventory import artefacts
from dtx.store.needs import protected
from dtx.store.store import DONE, Store
from tests.toys import Number, Sum

ONE, TWO, THREE = Number(value=1), Number(value=2), Number(value=3)
TOTAL = Sum(left=ONE, right=TWO)
survey = functools.partial(garbage.survey, older=0)
SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture
def full(store, experiment_of):
    """A store with two sums that share an input, and an input of nobody's."""
    run(experiment_of(TOTAL, Sum(left=ONE, right=THREE), Number(value=4)))
    return store


def labels(items) -> set[str]:
    return {item.label for item in items}


def test_what_is_kept_keeps_all_that_it_was_made_from(full):
    found = survey(full.root, {TOTAL.label: "preset toy"})
    assert labels(found.stays) == {TOTAL.label, ONE.label, TWO.label}
    why = {i.label: i.why for i in found.stays}
    assert why[TOTAL.label] == "preset toy" and why[TWO.label] == f"input of {TOTAL.label}"
    assert len(found.goes) == 3 and {i.why for i in found.goes} == {"nothing reaches it"}
    assert len(artefacts(full.root)) == 6  # only looked


def test_named_runs_and_names_on_the_command_line_keep(full):
    runs = full.root / ".runs"
    runs.mkdir()
    (runs / "mine.json").write_text(json.dumps({"name": "mine", "labels": [THREE.label, "gone-1"]}))
    found = survey(full.root, {}, keep=[Number(value=4).label[:10]])
    assert labels(found.stays) == {THREE.label, Number(value=4).label}
    assert {i.why.split()[0] for i in found.stays} == {"run", "--keep"}
    (runs / "mine.json").write_text("{half")
    with pytest.raises(UserError, match=r"mine\.json cannot be read"):
        survey(full.root, {})


def test_a_kept_artefact_whose_inputs_cannot_be_known_stops_everything(full):
    (full.folder(TOTAL) / DONE).write_text("{half")
    with pytest.raises(UserError, match=f"dtx invalidate {TOTAL.label}"):
        survey(full.root, {}, keep=[TOTAL.label])
    assert TOTAL.label in labels(survey(full.root, {}).goes)


def test_what_was_made_or_set_aside_of_late_stays_with_all_that_it_was_made_from(full):
    path = full.folder(ONE) / DONE  # an old input of a new artefact
    path.write_text(json.dumps({**json.loads(path.read_text()), "finished": "2020-01-01T00:00:00"}))
    full.invalidate(Number(value=4).label)
    found = survey(full.root, {}, older=1)
    assert not found.goes and len(found.stays) == 6
    why = {i.label: i.why for i in found.stays}
    assert why[TOTAL.label] == "made 0.0 days ago (--older 1)"
    assert why[ONE.label].startswith("input of ")
    assert len(survey(full.root, {}).goes) == 6


def test_sizes_are_those_on_disk(full):
    for item in survey(full.root, {}).goes:
        assert item.size == sum(p.stat().st_size for p in item.path.rglob("*") if p.is_file())


def test_only_old_unfinished_work_goes(full):
    for name in ("ppo-old", "ppo-new", "ppo-new.pull"):
        folder = full.root / ".work" / name
        folder.mkdir(parents=True)
        (folder / "half.txt").write_text("half")
    for path in (full.root / ".work" / "ppo-old", full.root / ".work" / "ppo-old" / "half.txt"):
        os.utime(path, (time.time() - 8 * 86400,) * 2)
    found = survey(full.root, {s.label: "x" for s in (TOTAL, ONE)}, older=7)
    goes = {i.path.name for i in found.goes if i.kind == "unfinished"}
    stays = {i.path.name for i in found.stays if i.kind == "unfinished"}
    assert (goes, stays) == ({"ppo-old"}, {"ppo-new", "ppo-new.pull"})
    assert len([i for i in survey(full.root, {}, older=9).goes if i.kind == "unfinished"]) == 0


def test_somebodys_folder_stays_and_what_was_set_aside_goes(full):
    (full.root / "notes").mkdir()
    (full.root / "notes" / "precious.txt").write_text("somebody's")
    (aside,) = full.invalidate(TOTAL.label)
    found = survey(full.root, {})
    assert "notes" in {i.path.name for i in found.stays}
    collect(full.root, found.goes)
    assert (full.root / "notes" / "precious.txt").exists() and not aside.exists()
    assert artefacts(full.root) == []
    assert list((full.root / ".locks").iterdir()) == []


def _work(root, asked, answer):
    """Hold a stage's lock and its inputs, as the runner does."""
    with protected(root, [ONE.label]), Store(root).work(Number(value=9)) as work:
        (work / "half.txt").write_text("half")
        answer.set()
        asked.wait(60)


def test_nothing_of_a_living_process_goes(full):
    ask, answer = SPAWN.Event(), SPAWN.Event()
    before = survey(full.root, {})  # made before the process began
    process = SPAWN.Process(target=_work, args=(full.root, ask, answer))
    process.start()
    assert answer.wait(60)
    found = survey(full.root, {}, older=-1)
    why = {i.label: i.why for i in found.stays}
    assert "needs it" in why[ONE.label] and f"process {process.pid} " in why[ONE.label]
    assert "works on it" in why[Number(value=9).label]
    gone, spared = collect(full.root, before.goes, older=-1)
    assert labels(spared) == {ONE.label} and len(gone) == 5
    assert full.has(ONE) and full.locked(Number(value=9).label)
    assert (full.root / ".work" / Number(value=9).label / "half.txt").exists()
    process.kill()
    process.join()
    found = survey(full.root, {}, older=7)  # killed: its work and what it needs can be gone on with
    assert labels(found.stays) == {ONE.label, Number(value=9).label} and not found.goes
    gone, _ = collect(full.root, survey(full.root, {}, older=-1).goes, older=-1)
    assert labels(gone) == {ONE.label, Number(value=9).label}
    names = {p.name for p in full.root.rglob("*") if p.is_file()}
    assert names == {"gate.lock"}


def _collect(root):
    collect(root, survey(root, {}).goes)


def test_a_kill_in_the_middle_leaves_nothing_that_counts_as_whole_but_is_not(store):
    """Killed when one, then when five artefacts are gone; each other one is then whole or gone."""
    stages = [Number(value=v) for v in range(8)]
    for gone in (1, 5):
        for stage in stages:
            with store.work(stage) as work:
                if work is not None:
                    for i in range(150):
                        (work / f"{i}.txt").write_text("x")
                    store.commit(stage, work, {})
        process = SPAWN.Process(target=_collect, args=(store.root,))
        process.start()
        while sum(store.has(stage) for stage in stages) > len(stages) - gone:
            assert process.is_alive()
        process.kill()
        process.join()
        left = [stage for stage in stages if store.has(stage)]
        assert 0 < len(left) < len(stages)
        for stage in left:
            Store(store.root).verify(stage)
    collect(store.root, survey(store.root, {}).goes)
    assert survey(store.root, {}).goes == [] and artefacts(store.root) == []
    assert list((store.root / ".invalid").iterdir()) == []


def test_presets_reach_their_stages_for_every_seed_that_is_expected(tmp_path):
    reached = reached_by_presets()
    reasons = set(reached.values())
    assert {"the defaults", "preset quickstart", "preset memory_dt, seed 204"} <= reasons
    assert len({label for label in reached if label.startswith("ppo-")}) == 13
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text("# @package _global_\nagent: {width: 77}\n")
    more = reached_by_presets(tmp_path)
    assert {label for label in more.keys() - reached.keys() if label.startswith("ppo-")}
    (tmp_path / "experiment" / "mine.yaml").write_text("# @package _global_\nagent: {lrr: 1}\n")
    with pytest.raises(UserError, match="preset mine cannot be composed") as error:
        reached_by_presets(tmp_path)
    assert "did you mean 'lr'" in str(error.value)
