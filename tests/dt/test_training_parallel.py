"""Training on several devices: the same numbers as on one, and the same way of going on."""

import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from dtx.config.compose import ConfigError
from dtx.dt import model as models
from dtx.dt.model import DecisionTransformerModel
from dtx.dt.training.module import weighted_loss
from dtx.dt.windows import Sampler
from dtx.errors import Interrupted, UserError
from dtx.report import read_curves, read_metrics
from dtx.running.runner import run
from dtx.training.ranks import Rank
from tests.dt.test_decision_transformer import files
from tests.dt.toy import episodes, tiny

TWO = ("dt.trainer.devices=2", "dt.precision=float32")


def folder(place: Path, name: str) -> Path:
    (place / name).mkdir()
    return place / name


@pytest.mark.parametrize(("count", "ranks"), [(32, 2), (32, 3), (3, 5)])
def test_the_ranks_shares_add_up_to_the_batch(count, ranks):
    """Loss, accuracy and gradients; in the last case some ranks have nothing to do."""
    stage = tiny()
    sampler = Sampler(episodes(), stage.model_config(), stage.windows, 0)
    network = DecisionTransformerModel(stage.model_config()).double()
    models.initialise(network, None, 0.3, 0)

    def measure(rank: Rank) -> tuple[np.ndarray, int]:
        batch = sampler.batch(1, 2, count, rank)
        batch = replace(batch, table=batch.table.double())
        network.zero_grad()
        loss, accuracy = weighted_loss(network.packed(batch), batch)
        loss.backward()
        gradients = [p.grad.flatten() for p in network.parameters()]
        told = torch.stack([loss, accuracy, *torch.cat(gradients)])
        return told.detach().numpy(), batch.windows

    whole, windows = measure(Rank())
    parts = [measure(Rank(number, ranks)) for number in range(ranks)]
    assert windows == count == sum(n for _, n in parts)
    assert not np.allclose(parts[0][0], whole)
    np.testing.assert_allclose(sum(part for part, _ in parts), whole, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("option", ["dt/memory_dt", "dt/memory_dt_study"])
def test_two_processes_give_the_curves_of_one(option, tmp_path):
    one = tiny("dt.steps=12", "dt.precision=float32", option=option)
    two = tiny("dt.steps=12", *TWO, option=option)
    assert one.key == two.key
    one.run(folder(tmp_path, "one"))
    two.run(folder(tmp_path, "two"))
    assert sorted(files(tmp_path / "one")) == sorted(files(tmp_path / "two"))
    curves = [read_curves(tmp_path / name) for name in ("one", "two")]
    assert len(curves[1]) == 6
    for first, second in zip(*curves, strict=True):
        assert second == pytest.approx(first, rel=1e-5)
    assert read_metrics(tmp_path / "two") == pytest.approx(read_metrics(tmp_path / "one"), rel=1e-5)


def test_one_data_parallel_process_is_bit_identical_to_none(tmp_path):
    tiny().run(folder(tmp_path, "without"))
    tiny("dt.trainer.strategy=ddp").run(folder(tmp_path, "with"))
    assert files(tmp_path / "with") == files(tmp_path / "without")


def ranks() -> list[psutil.Process]:
    """The processes that train: children of the server that forked them."""
    me = psutil.Process()
    return [p for p in me.children(recursive=True) if p.ppid() != me.pid]


def when_a_checkpoint_is_there(place: Path, act) -> threading.Thread:
    def wait() -> None:
        end = time.monotonic() + 120
        while not list(place.rglob("resume.ckpt")):
            assert time.monotonic() < end
            time.sleep(0.005)
        act()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


LONG = ("dt.steps=120", "dt.log_every=20", *TWO)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("whole")
    tiny(*LONG).run(out)
    return files(out)


def test_a_killed_rank_fails_the_stage_which_goes_on_bit_identically(whole, tmp_path):
    thread = when_a_checkpoint_is_there(tmp_path, lambda: ranks()[-1].kill())
    with pytest.raises(UserError, match=r"was killed \(SIGKILL\)"):
        tiny(*LONG).run(tmp_path)
    thread.join()
    assert ranks() == [] and not (tmp_path / "weights.safetensors").exists()
    assert 0 < torch.load(tmp_path / "resume.ckpt", weights_only=True)["step"] < 120
    tiny(*LONG).run(tmp_path)
    assert files(tmp_path) == whole


def test_sigterm_interrupts_the_stage_which_goes_on_bit_identically(whole, experiment_of, store):
    stage = tiny(*LONG)
    thread = when_a_checkpoint_is_there(store.root, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(Interrupted):
        run(experiment_of(stage))
    thread.join()
    assert ranks() == [] and not store.has(stage)
    run(experiment_of(stage))
    found = files(store.folder(stage))
    found.pop("done.json")
    assert found == whole


def test_a_run_goes_on_with_another_number_of_processes(whole, tmp_path):
    thread = when_a_checkpoint_is_there(tmp_path, lambda: ranks()[-1].kill())
    with pytest.raises(UserError):
        tiny(*LONG).run(tmp_path)
    thread.join()
    tiny(*LONG[:2], "dt.precision=float32").run(tmp_path)
    found = read_curves(tmp_path)
    assert [point["step"] for point in found] == [20, 40, 60, 80, 100, 120]


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("dt.trainer.devices=0", r"dt\.trainer\.devices: must be at least 1"),
        ("dt.trainer.devices=17", r"dt\.trainer\.devices: 17 cannot share batches of 16 windows"),
        ("dt.trainer.accelerator=tpu", r"dt\.trainer\.accelerator: one of cpu, gpu is wanted"),
        ("dt.trainer.strategy=fsdp", r"dt\.trainer\.strategy: one of auto, ddp is wanted"),
    ],
)
def test_wrong_trainers_are_explained(override, words):
    with pytest.raises(ConfigError, match=words):
        tiny(override)


def test_gpus_that_are_not_there_are_a_users_mistake(tmp_path):
    wanted = torch.cuda.device_count() + 1
    stage = tiny("dt.trainer.accelerator=gpu", f"dt.trainer.devices={wanted}")
    with pytest.raises(UserError, match=rf"dt\.trainer: {wanted} GPU\(s\) are wanted"):
        stage.run(tmp_path)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("strategy", ["auto", "ddp"])
def test_a_gpu_gives_the_curves_of_the_processor(strategy, tmp_path):
    tiny("dt.precision=float32").run(folder(tmp_path, "cpu"))
    chosen = ("dt.trainer.accelerator=gpu", f"dt.trainer.strategy={strategy}")
    tiny("dt.precision=float32", *chosen).run(folder(tmp_path, "gpu"))
    for first, second in zip(*(read_curves(tmp_path / n) for n in ("cpu", "gpu")), strict=True):
        assert second == pytest.approx(first, rel=1e-3)
