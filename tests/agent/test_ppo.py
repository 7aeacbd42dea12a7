"""The stage: it trains, resumes exactly, retries, and says what is wrong."""

import json
from pathlib import Path

import pytest
import torch

from dtx.agent.network import load
from dtx.agent.ppo import PPO
from dtx.agent.ppo.module import PPOModule, derived
from dtx.config.compose import build_group
from dtx.report import read_curves, read_metrics

TINY = [
    "agent.width=8",
    "agent.environments=4",
    "agent.rollout_steps=8",
    "agent.frames=320",
    "agent.epochs=2",
    "agent.minibatches=2",
    "agent.evaluate_every=3",
    "agent.evaluation_episodes=8",
    "agent.attempts=1",
    "agent.checkpoint_every=3",
    "env.max_steps=12",
]


def tiny(*overrides: str) -> PPO:
    return build_group("agent/ppo", [*TINY, *overrides])


PASSING = ("timing.jsonl", "resume.ckpt")  # differ between equal runs, or go at the commit


def artefacts(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.name not in PASSING}


@pytest.mark.parametrize("encoder", ["linear", "conv"])
@pytest.mark.parametrize("memory", ["lstm", "gru"])
def test_every_kind_of_network_learns_a_step(encoder: str, memory: str, tmp_path: Path) -> None:
    stage = tiny(f"agent.encoder={encoder}", f"agent.memory={memory}")
    stage.run(tmp_path)
    trained = load(tmp_path)
    fresh = PPOModule(stage, None).agent
    for (name, a), b in zip(trained.named_parameters(), fresh.parameters(), strict=True):
        assert torch.isfinite(a).all()
        assert not torch.equal(a, b), name
    curves = read_curves(tmp_path)
    assert [p["step"] for p in curves] == [32 * i for i in range(1, 11)]
    wanted = ["entropy", "kl", "explained_variance", "policy_loss", "value_loss"]
    assert {f"learn/{k}" for k in wanted} | {"train/return"} <= set().union(*curves)
    assert sum("fresh/success" in p for p in curves) == 3
    headline = read_metrics(tmp_path)
    assert headline["agent/fresh_episodes"] == 8
    shares = [headline[f"agent/t5_{k}"] for k in ("success", "wrong", "truncated")]
    assert sum(shares) == pytest.approx(1)
    assert read_curves(tmp_path, "timing.jsonl")[0]["timing/frames_per_cpu_second"] > 0


@pytest.mark.parametrize("killed_at", [[2], [4, 7], [5, 9, 9]])
@pytest.mark.parametrize("retries", [False, True])
def test_killed_and_run_again_it_ends_bit_identical(
    killed_at: list[int], retries: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # With retries: unsolved after 128 frames, so attempts begin after iterations 4 and 8.
    more = ["agent.attempts=3", "agent.give_up_at=128"] if retries else []
    stage = tiny(*more)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir()
    broken.mkdir()
    stage.run(whole)
    attempts = read_metrics(whole)["agent/attempts"]
    assert attempts == (3 if retries else 1)

    learn = PPOModule._learn
    for kill in killed_at:

        def dies(self: PPOModule, rollout, step: int, kill: int = kill):
            if step == kill:
                raise KeyboardInterrupt
            return learn(self, rollout, step)

        monkeypatch.setattr(PPOModule, "_learn", dies)
        torch.manual_seed(kill)  # another process has another global state
        with pytest.raises(BaseException):  # noqa: B017  Lightning may wrap it
            stage.run(broken)
    monkeypatch.setattr(PPOModule, "_learn", learn)
    if killed_at[-1] > 2:
        assert torch.load(broken / "resume.ckpt", weights_only=True)["step"] in (6, 9)
    stage.run(broken)
    assert artefacts(whole) == artefacts(broken)

    # Killed after training, while it measures: the next run does not train again.
    monkeypatch.setattr(PPOModule, "_learn", None)
    stage.run(broken)
    assert artefacts(whole) == artefacts(broken)


def test_an_unsolved_task_is_said_with_what_to_try(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny().run(tmp_path)
    said = " ".join(capsys.readouterr().err.split())
    assert "did not solve dtx/MemoryS7FixedStart-v0" in said
    for advice in ("agent.frames=640", "agent.seed=1", "agent.attempts=3", "agent.entropy="):
        assert advice in said
    headline = read_metrics(tmp_path)
    assert headline["agent/solved"] == 0
    assert headline["agent/frames_to_solved"] is None


def test_it_stops_when_solved_if_asked_to(tmp_path: Path) -> None:
    tiny("agent.solved_at=0", "agent.stop_when_solved=true").run(tmp_path)
    headline = read_metrics(tmp_path)
    assert headline["agent/frames_to_solved"] == headline["agent/frames"] == 3 * 32


def test_seeds_differ_by_purpose_and_seed(tmp_path: Path) -> None:
    assert derived(0, "env", 1) == derived(0, "env", 1)
    assert len({derived(s, p, k) for s in (0, 1) for p in ("env", "act") for k in (0, 1)}) == 8
    once, other = tmp_path / "0", tmp_path / "1"
    for seed, folder in enumerate((once, other)):
        folder.mkdir()
        tiny(f"agent.seed={seed}").run(folder)
    assert (once / "weights.safetensors").read_bytes() != (
        other / "weights.safetensors"
    ).read_bytes()


def test_other_tasks_train_too(tmp_path: Path) -> None:
    small = [o for o in TINY if not o.startswith("env.")]
    stage = build_group(
        "agent/ppo", ["env=minigrid", "env.id=MiniGrid-Empty-5x5-v0", "env.max_steps=10", *small]
    )
    stage.run(tmp_path)
    assert json.loads((tmp_path / "model.json").read_text())["n_actions"] == 7


@pytest.mark.parametrize(
    ("override", "field", "message"),
    [
        ("agent.lr=0", "lr", "above 0"),
        ("agent.gamma=1.5", "gamma", "between 0 and 1"),
        ("agent.entropy=-1", "entropy", "0 or more"),
        ("agent.minibatches=8", "minibatches", "exceed the 4 environments"),
        ("agent.frames=16", "frames", "less than one iteration"),
        ("agent.attempts=2", "give_up_at", "between 0 and frames"),
    ],
)
def test_values_out_of_range_are_named_with_what_to_do(
    override: str, field: str, message: str
) -> None:
    from dtx.errors import UserError

    with pytest.raises(UserError, match=message) as error:
        tiny(override)
    assert f"agent.{field}" in str(error.value)


@pytest.mark.slow
def test_the_default_preset_solves_memory(tmp_path: Path) -> None:
    build_group("agent/ppo").run(tmp_path)
    headline = read_metrics(tmp_path)
    assert headline["agent/success"] >= 0.95
    assert headline["agent/fresh_episodes"] >= 500
    assert headline["agent/t5_success"] > 0.5
    assert headline["agent/t5_wrong"] > 0.05
