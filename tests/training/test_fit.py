"""Training with checkpoints: the defaults of a module are enough, and an interrupted run goes on exactly."""

import zipfile
from pathlib import Path

import pytest
import torch

from dtx.report import Report, read_curves
from dtx.stage import CHECKPOINT
from dtx.training.fit import fit
from dtx.training.resumable import ResumableModule


class Sum(ResumableModule):
    """Adds step + a random number in every step; keeps nothing beside parameters."""

    def __init__(self, stop_at: int | None = None):
        super().__init__()
        self.automatic_optimization = False
        self.total = torch.nn.Parameter(torch.zeros(1))
        self.steps: list[int] = []
        self.stop_at = stop_at

    def training_step(self, step: int, _: int) -> None:
        if step == self.stop_at:
            raise KeyboardInterrupt
        self.steps.append(step)
        with torch.no_grad():
            self.total += step + torch.rand(1)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters())


class Writer(Sum):
    """Writes a point of its curve and a file in every step."""

    def __init__(self, out: Path, stop_at: int | None = None):
        super().__init__(stop_at)
        self.report = Report(out)

    def training_step(self, step: int, number: int) -> None:
        super().training_step(step, number)
        self.report.curve(step, {"total": self.total.item()})
        self.report.timing(step, {"speed": 1.0})
        path = self.report.out / "kept" / f"{step}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text(str(self.total.item()))


class Early(Sum):
    """Ends after three steps and counts what it restores."""

    def finished(self) -> bool:
        return len(self.steps) == 3

    def resume_state(self) -> dict[str, list[int]]:
        return {"steps": list(self.steps)}

    def load_resume_state(self, state: dict[str, list[int]]) -> None:
        self.steps = state["steps"]


def train(module: ResumableModule, out: Path) -> None:
    fit(module, out, 6, name="toy", unit="steps", amount=1, checkpoint_every=2)


def test_a_module_without_state_of_its_own_is_resumed_exactly(tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir()
    broken.mkdir()
    torch.manual_seed(0)
    once = Sum()
    train(once, whole)
    assert once.steps == [0, 1, 2, 3, 4, 5]

    torch.manual_seed(0)
    with pytest.raises(BaseException):  # noqa: B017  Lightning may wrap it
        train(Sum(stop_at=5), broken)
    again = Sum()
    train(again, broken)
    assert again.steps == [4, 5]
    assert torch.equal(once.total, again.total)


def test_a_module_can_end_early_and_its_state_is_restored(tmp_path: Path) -> None:
    early = Early()
    train(early, tmp_path)
    assert early.steps == [0, 1, 2]
    again = Early()
    train(again, tmp_path)  # it is done: nothing is trained again
    assert again.steps == [0, 1, 2]
    assert torch.equal(early.total, again.total)


def interrupted(folder: Path) -> None:
    """Leave a checkpoint of step 4 of 6."""
    folder.mkdir()
    torch.manual_seed(0)
    with pytest.raises(BaseException):  # noqa: B017  Lightning may wrap it
        train(Sum(stop_at=5), folder)
    assert (folder / CHECKPOINT).stat().st_size > 1000


def garbage(path: Path) -> None:
    path.write_bytes(bytes(range(256)) * 8)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def changed(path: Path) -> None:
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        largest = max(archive.infolist(), key=lambda part: part.file_size)
    content[largest.header_offset + 200 + largest.file_size // 2] ^= 255
    path.write_bytes(bytes(content))


def other(path: Path) -> None:
    torch.save({"step": 4}, path)


def a_list(path: Path) -> None:
    torch.save([1, 2], path)


@pytest.mark.parametrize(
    "harm", [lambda p: p.write_bytes(b""), garbage, cut, changed, other, a_list]
)
def test_damaged_unfinished_work_is_told_and_begun_anew(tmp_path: Path, harm, capsys) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir()
    torch.manual_seed(0)
    once = Sum()
    train(once, whole)
    interrupted(broken)
    harm(broken / CHECKPOINT)
    torch.manual_seed(0)
    again = Sum()
    train(again, broken)
    assert again.steps == once.steps and torch.equal(again.total, once.total)
    assert "broken: the unfinished work is damaged" in " ".join(capsys.readouterr().err.split())
    # What is set aside is no file of the artefact: the store removes it with all half-written files.
    aside = [p.name for p in broken.iterdir() if p.name != CHECKPOINT and "ckpt" in p.name]
    assert len(aside) == 1 and aside[0].endswith(".partial")


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize(
    ("name", "harm"),
    [
        ("curves.jsonl", flip),
        ("curves.jsonl", cut),
        ("curves.jsonl", Path.unlink),
        ("kept/1.txt", flip),
        ("kept/1.txt", Path.unlink),
        ("timing.jsonl", garbage),
        ("timing.jsonl", cut),
        ("timing.jsonl", lambda p: p.write_text('[1]\n{"step": "x"}\n')),
        ("timing.jsonl", Path.unlink),
        ("later.txt", lambda p: p.write_text("of no checkpoint")),
    ],
)
def test_files_beside_a_checkpoint_that_have_changed_are_not_gone_on_from(tmp_path, name, harm):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    for folder, stop_at in ((whole, None), (broken, 5)):
        folder.mkdir()
        torch.manual_seed(0)
        try:
            train(Writer(folder, stop_at), folder)
        except BaseException:  # Lightning may wrap it
            assert stop_at
    harm(broken / name)
    torch.manual_seed(0)
    again = Writer(broken)
    train(again, broken)
    trusted = name in ("timing.jsonl", "later.txt")
    assert again.steps == ([4, 5] if trusted else [0, 1, 2, 3, 4, 5])
    for file in ("curves.jsonl", *(f"kept/{step}.txt" for step in range(6))):
        assert (broken / file).read_bytes() == (whole / file).read_bytes()
    assert read_curves(broken, "timing.jsonl")[-1] == {"step": 5, "speed": 1.0}


def test_a_checkpoint_of_an_earlier_version_is_gone_on_from(tmp_path):
    interrupted(tmp_path / "old")
    state = torch.load(tmp_path / "old" / CHECKPOINT, weights_only=True)
    del state["files"]
    torch.save(state, tmp_path / "old" / CHECKPOINT)
    again = Sum()
    train(again, tmp_path / "old")
    assert again.steps == [4, 5]
