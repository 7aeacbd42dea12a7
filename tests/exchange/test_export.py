import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from matplotlib.figure import Figure

import dtx
from dtx.agent.network import ActorCritic, AgentArchitecture, save
from dtx.analysis.core.analysis import Analysis
from dtx.analysis.core.result import About, Check, Claim, Result, Verdict
from dtx.cli import main
from dtx.config.compose import build_group
from dtx.exchange.recorded_result import recorded_result
from dtx.figures import new
from dtx.running.runner import run
from dtx.stage import Stage
from tests.dt.test_model import contexts
from tests.dt.toy import Drawn, Recorded, tiny


@dataclass(frozen=True, kw_only=True)
class Measured(Analysis):
    """An analysis of a model, beside a control; its identity has a given error."""

    dt: Stage
    control: Stage
    error: float = 0.0

    def compute(self) -> Result:
        claim = Claim(id="a", text="a|b", criterion="x", evidence="y", verdict=Verdict.CONFIRMED)
        return Result(
            finding="mean 0.25 of 12434",
            metrics={"mean": 0.25, "n": 12434.0, "missing": None},
            checks=[Check(name="parts and whole", error=self.error, tolerance=1e-6)],
            claims=[claim],
            about=About.INSTRUMENT,
        )

    def figures(self, result: Result) -> Iterator[tuple[str, Figure]]:
        yield "bars", new(3, 2, mosaic="a")[0]


@dataclass(frozen=True, kw_only=True)
class Agent(Stage):
    """An untrained agent."""

    def run(self, out: Path) -> None:
        from dtx.agent.architecture import Encoder, Recurrence

        save(
            ActorCritic(
                AgentArchitecture(
                    encoder=Encoder.linear, memory=Recurrence.gru, width=4, n_actions=7
                )
            ),
            out,
        )


@pytest.fixture
def measured(store, experiment_of):
    subject, control = (Drawn(dataset=Recorded(), seed=seed) for seed in (0, 1))
    run(experiment_of(Measured(dt=subject, control=control)))
    return store, subject, control


def test_a_model_is_handed_over_and_read_back(measured, tmp_path, capsys):
    store, subject, control = measured
    out = tmp_path / "out"
    command = ["export", subject.label, str(out), "--store", str(store.root), "--licence", "mit"]
    assert main(command) == 0
    assert "with what 1 analyses found" in capsys.readouterr().out
    context = contexts(tiny())
    found = dtx.load("dt", path=out)
    assert torch.equal(found.model(context), subject.load()(context))
    assert found.label == subject.label
    card = ModelCard.load(out / "README.md")  # as Hugging Face reads it
    assert card.data.license == "mit" and "decision-transformer" in card.data.tags
    results = {r.metric_type: r.metric_value for r in card.data.eval_results}
    assert results["test_export/mean"] == 0.25 and "test_export/missing" not in results
    text = (out / "README.md").read_text()
    assert "| test_export/n | 12434 |" in text and "| test_export/missing | none |" in text
    assert "| a\\|b | x | y | confirmed |" in text and "mean 0.25 of 12434" in text
    assert "Not established" not in text
    assert "![" in text and all(
        (out / "figures" / p.name).is_file() for p in (out / "figures").iterdir()
    )
    assert f"dataset: `{subject.dataset.label}`" in text
    lineage = json.loads((out / "lineage.json").read_text())
    assert lineage["key"] == subject.key and subject.dataset.label in lineage["records"]
    assert not {"host", "mlflow"} & set(lineage) and "diff" not in lineage["git"]
    assert str(tmp_path) not in text + json.dumps(lineage)
    assert main(command) == 0  # once more into the same folder
    out2 = tmp_path / "control"
    assert main(["export", control.key, str(out2), "--store", str(store.root)]) == 0
    text = (out2 / "README.md").read_text()
    assert (
        "test_export/mean" not in text and "(as `control`)" in text
    )  # its numbers are of the other
    assert "No licence was named" in text


def files(folder: Path) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }


def test_an_earlier_export_is_replaced_only_by_force_and_the_users_files_stay(
    measured, tmp_path, capsys
):
    store, subject, _ = measured
    out = tmp_path / "out"
    command = ["export", subject.label, str(out), "--store", str(store.root)]
    assert main(command) == 0
    whole = files(out)
    (out / ".git").mkdir()
    (out / ".git" / "HEAD").write_text("mine")
    assert main(command) == 0 and "is there already" in capsys.readouterr().out
    (out / "README.md").write_text("a card of my own")
    (out / "circuit.json").write_text("{}")  # of the model that was exported before
    (out / "figures" / "earlier.png").write_text("")
    before = files(out)
    assert main(command) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "README.md exists already, with another content: give another folder, or --force" in said
    assert files(out) == before
    assert main([*command, "--force"]) == 0
    assert files(out) == {**whole, ".git/HEAD": b"mine"}


def test_a_folder_of_something_else_is_not_written_to(measured, tmp_path, capsys):
    store, subject, _ = measured
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious").write_text("1")
    for more in ([], ["--force"]):
        command = ["export", subject.label, str(tmp_path / "out"), "--store", str(store.root)]
        assert main([*command, *more]) == 2
        assert "neither empty nor an exported model" in " ".join(capsys.readouterr().err.split())
        assert files(tmp_path / "out") == {"precious": b"1"}


@pytest.mark.parametrize("link", [".", "figures", "README.md", "weights.safetensors"])
def test_nothing_is_exported_through_a_link(measured, tmp_path, capsys, link):
    store, subject, _ = measured
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    command = ["export", subject.label, str(out), "--store", str(store.root)]
    assert main(command) == 0
    (out / link).rename(elsewhere)
    (out if link == "." else out / link).symlink_to(elsewhere)
    before = (elsewhere.lstat(), files(tmp_path / "out"))
    for more in ([], ["--force"]):
        assert main([*command, *more]) == 2
        assert "is a link, and dtx does not write" in " ".join(capsys.readouterr().err.split())
    assert (elsewhere.lstat(), files(tmp_path / "out")) == before


@pytest.mark.parametrize("name", ["figures/more.png", "circuit.json", "figures"])
def test_a_link_in_an_artefact_does_not_come_into_an_export(measured, tmp_path, capsys, name):
    store, subject, _ = measured
    (reader,) = store.root.glob("test_export-*")
    folder = reader if "figures" in name else store.folder(subject)
    secret = tmp_path / "secret"
    (folder / name).rename(secret) if (folder / name).exists() else secret.write_text("secret")
    (folder / name).symlink_to(secret)
    command = ["export", subject.label, str(tmp_path / "out"), "--store", str(store.root)]
    assert main(command) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert f"{name} is a link; `dtx invalidate {folder.name}`" in said
    assert not (tmp_path / "out").exists()


def test_a_card_says_why_a_result_is_not_established(store, experiment_of, tmp_path):
    subject, control = (Drawn(dataset=Recorded(), seed=seed) for seed in (0, 1))
    broken = Measured(dt=subject, control=control, error=3.0)
    run(experiment_of(broken))
    out = tmp_path / "out"
    assert main(["export", subject.label, str(out), "--store", str(store.root)]) == 0
    text = (out / "README.md").read_text()
    assert "**Not established**: check failed: parts and whole: 3 is above 1e-06." in text
    assert "| a\\|b | x | y | not established |" in text and "confirmed" not in text
    found = dtx.load("analysis", broken.key, store=store).result
    assert not found.established and found.claims[0].verdict is Verdict.NOT_ESTABLISHED


def test_a_result_from_before_checks_were_recorded_is_not_established(tmp_path):
    (tmp_path / "headline.json").write_text('{"lens/agreement": 0.9}')
    of_dtx = recorded_result(tmp_path, {"class": "dtx.analysis.lens.Lens"})
    assert of_dtx is not None and of_dtx.metrics["agreement"] == 0.9
    assert not of_dtx.established
    assert recorded_result(tmp_path, {"class": "mine.Rollout"}) is None


def test_an_agent_is_handed_over(store, experiment_of, tmp_path):
    stage = Agent()
    run(experiment_of(stage))
    assert main(["export", stage.label, str(tmp_path / "a"), "--store", str(store.root)]) == 0
    agent, again = (
        dtx.load("agent", **w).agent
        for w in ({"path": tmp_path / "a"}, {"which": stage.key, "store": store})
    )
    seen = torch.zeros(2, 7, 7, 3, dtype=torch.uint8)
    assert torch.equal(
        agent.step(seen, agent.initial_memory(2))[0], again.step(seen, again.initial_memory(2))[0]
    )
    assert "recurrent actor-critic" in (tmp_path / "a" / "README.md").read_text()


def test_a_planted_model_is_known_by_its_task_and_its_circuit(store, experiment_of, tmp_path):
    stage = build_group("dt/planted")
    run(experiment_of(stage))
    assert main(["export", "planted", str(tmp_path / "p"), "--store", str(store.root)]) == 0
    dt = dtx.load("dt", path=tmp_path / "p")
    assert dt.env == stage.env and (tmp_path / "p" / "circuit.json").is_file()
    assert set(dt.rollout(0.9, 3, greedy=True)["outcome"]) == {"success"}


def test_only_models_go_and_nothing_else_is_written_over(measured, tmp_path, capsys):
    store, subject, _ = measured
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    where = ["--store", str(store.root)]
    assert main(["export", subject.label, str(tmp_path / "full"), *where]) == 2
    assert "is neither empty nor an exported model" in capsys.readouterr().err
    assert main(["export", subject.label, str(tmp_path / "full" / "mine.txt"), *where]) == 2
    assert main(["export", "test_handover", str(tmp_path / "new"), *where]) == 2
    assert [p.name for p in (tmp_path / "full").iterdir()] == ["mine.txt"]
    assert not (tmp_path / "new").exists()
