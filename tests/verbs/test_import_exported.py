"""`dtx import` of what `dtx export` wrote, and of what needs no import."""

import json
import shlex
from pathlib import Path

import pytest
import torch

import dtx
from dtx.agent.imported import Imported as ImportedAgent
from dtx.cli import main
from dtx.config.compose import build_group, compose, experiment
from dtx.dt.circuit import Circuit
from dtx.dt.imported import Imported as ImportedModel
from dtx.errors import UserError
from dtx.exchange.published.source import digest_of
from dtx.running.runner import run
from tests.dt.test_model import contexts
from tests.dt.toy import Drawn, Recorded, tiny
from tests.exchange.test_export import Agent
from tests.published import RAW, agent, write

QUIET = "tracking.enabled=false"


@pytest.fixture
def exported(store, experiment_of, tmp_path, monkeypatch):
    """Runs a stage and hands it over into a folder, in a working directory of its own."""

    def export(stage, name="given"):
        run(experiment_of(stage))
        out = tmp_path / name
        assert main(["export", stage.label, str(out), "--store", str(store.root)]) == 0
        return out

    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return export


def used(out: str) -> list[str]:
    wrote, command = out.strip().splitlines()[-2:]
    assert wrote.startswith("wrote ")
    return shlex.split(command.removeprefix("use it: "))[2:]


def test_a_model_goes_over_to_another_store_with_equal_logits(exported, store, capsys):
    stage = Drawn(dataset=Recorded())
    folder = exported(stage)
    assert main(["import", str(folder), "--as", "theirs", QUIET]) == 0
    words = used(capsys.readouterr().out)
    assert words[0] == "dt=theirs"
    mine = experiment(compose(words, Path("conf"))).targets["activation_patching"].dt
    assert mine.label.startswith("imported-") and mine.digest == digest_of(folder)
    context = contexts(tiny())
    assert torch.equal(
        dtx.load("dt", mine.label, store="store").model(context),
        dtx.load("dt", stage.key, store=store).model(context),
    )
    beside = json.loads(
        (dtx.load("dt", mine.label, store="store").folder / "lineage.json").read_text()
    )
    assert beside["key"] == stage.key  # where it comes from is not lost
    for name in ("weights.safetensors", "model.json"):  # the identity is of both
        before = (folder / name).read_bytes()
        (folder / name).write_bytes(before + b" ")
        assert digest_of(folder) != mine.digest
        (folder / name).write_bytes(before)


def test_a_planted_model_keeps_its_circuit_and_its_environment(exported, capsys):
    folder = exported(build_group("dt/planted", ["env.max_steps=40"]))
    assert main(["import", str(folder), QUIET]) == 0
    words = used(capsys.readouterr().out)
    assert {"dt=given", "env=memory", "env.max_steps=40", "pairs=memory"} <= set(words)
    what = experiment(compose([*words, "pairs.source.variants=1"], Path("conf")))
    assert what.targets["activation_patching"].pairs.env.max_steps == 40
    (there,) = [
        p for p in (folder.parent / "here" / "store").iterdir() if p.name.startswith("imported")
    ]
    assert (there / "circuit.json").read_bytes() == (folder / "circuit.json").read_bytes()
    assert Circuit.read(there) == Circuit.read(folder)


@pytest.mark.parametrize("published", [False, True])
def test_an_agent_goes_over(exported, store, experiment_of, capsys, tmp_path, published):
    """Our own, and one of the studies that was imported, handed over, and imported again."""
    stage = Agent()
    if published:
        file = write(tmp_path / "a.pt", *agent(), RAW)
        stage = ImportedAgent(file=file, digest=digest_of(file))
    folder = exported(stage)
    assert "actor-critic" in (folder / "README.md").read_text()
    assert main(["import", str(folder), QUIET]) == 0
    assert used(capsys.readouterr().out)[0] == "agent=given"
    mine = ImportedAgent(file=folder, digest=digest_of(folder))
    found = dtx.load("agent", mine.key, store="store").agent
    run(experiment_of(mine))
    seen = torch.randint(0, 3, (4, 7, 7, 3), dtype=torch.uint8)
    with torch.no_grad():
        wanted = stage.load() if published else dtx.load("agent", stage.key, store=store).agent
        logits = [a.step(seen, a.initial_memory(4))[0] for a in (wanted, found, mine.load())]
    assert torch.equal(logits[0], logits[1]) and torch.equal(logits[0], logits[2])
    assert "memory of" in mine.summary()


def test_folders_that_are_none_are_one_line(exported, tmp_path, capsys):
    folder = exported(Drawn(dataset=Recorded()))
    empty = tmp_path / "empty"
    empty.mkdir()

    def refused(what) -> str:
        assert main(["import", str(what), QUIET]) == 2
        return " ".join(capsys.readouterr().err.split())

    assert "is no folder that `dtx export` wrote" in refused(empty)
    assert "No such file" in refused(tmp_path / "none")
    model = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps({**model, "d_model": 8}))
    assert "not a readable model" in refused(folder)
    (folder / "model.json").unlink()
    assert "is no folder that `dtx export` wrote" in refused(folder)
    assert not list((tmp_path / "here").rglob("*.yaml"))


@pytest.mark.parametrize(
    "name",
    [
        "lineage.json",
        "model.json",
        "weights.safetensors",
        "circuit.json",
        "README.md",
        "figures",
        ".",
    ],
)
def test_a_link_in_a_handed_folder_is_refused(exported, tmp_path, capsys, name):
    """What it leads to would come into the store, and from there into an export."""
    folder = exported(Drawn(dataset=Recorded()))
    mine = ImportedModel(file=folder, digest=digest_of(folder))
    real, path = tmp_path / "secret", folder / name
    path.rename(real) if path.exists() else real.write_text("{}")
    (folder if name == "." else path).symlink_to(real)
    assert main(["import", str(folder), QUIET]) == 2
    assert "is a link, and dtx reads only" in " ".join(capsys.readouterr().err.split())
    assert not list((tmp_path / "here").iterdir())
    with pytest.raises(UserError, match="is a link, and dtx reads only"):
        dtx.load("dt", path=folder)
    with pytest.raises(UserError, match="is a link, and dtx reads only"):
        mine.run(tmp_path / "here")  # the link came after the config
    assert not list((tmp_path / "here").iterdir())


def test_a_minari_dataset_is_read_in_place(exported, tmp_path, capsys):
    folder = tmp_path / "sets" / "dtx" / "mine-v0"
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "main_data.hdf5").write_bytes(b"")
    (folder / "data" / "metadata.json").write_text(json.dumps({"dataset_id": "dtx/mine-v0"}))
    wanted = "needs no import: dtx run dataset=minari dataset.id=dtx/mine-v0"
    for what in ("minari:dtx/mine-v0", "dtx/mine-v0", str(folder)):
        assert main(["import", what]) == 2
        err = " ".join(capsys.readouterr().err.split())
        assert wanted in err
    assert f"dataset.root={tmp_path / 'sets'}" in err
