"""The course of an agent's training: learn, measure on fresh episodes, say how it went, save."""

from __future__ import annotations

from pathlib import Path

from dtx.agent.network import save
from dtx.agent.ppo import PPO
from dtx.agent.ppo.module import PPOModule
from dtx.progress import console
from dtx.report import Report
from dtx.training.fit import fit
from dtx.training.threads import one_thread

SOFT = 5.0
"""The MemoryDT study's second temperature, at which the teacher's mistakes are collected."""


def train(stage: PPO, out: Path) -> None:
    """Train ``stage``'s agent into ``out``."""
    report = Report(out)
    with one_thread():
        module = PPOModule(stage, report)
        given_up = -(-stage.give_up_at // stage.frames_an_iteration) if stage.attempts > 1 else 0
        fit(
            module,
            out,
            stage.iterations + (stage.attempts - 1) * given_up,
            name=stage.name,
            unit="frames",
            amount=stage.frames_an_iteration,
            checkpoint_every=stage.checkpoint_every,
            note=lambda: _note(module),
            shown=stage.iterations,
        )
        _conclude(module, report)
    save(module.agent, out)


def _conclude(module: PPOModule, report: Report) -> None:
    """Measure the final weights on fresh episodes of their own and write the headline."""
    stage = module.stage
    sharp = module.measure(stage.evaluation_episodes, 1.0, "end")
    soft = module.measure(stage.evaluation_episodes, SOFT, "end at temperature 5")
    solved = sharp.success >= stage.solved_at
    report.headline(
        {
            "agent/success": sharp.success,
            "agent/episode_length": sharp.length,
            "agent/return": sharp.mean_return,
            "agent/solved": float(solved),
            "agent/frames_to_solved": float(module.solved_frames) if module.solved_frames else None,
            "agent/frames": float(module.total_frames),
            "agent/attempts": float(module.attempt + 1),
            "agent/fresh_episodes": float(sharp.episodes),
            "agent/t5_success": soft.success,
            "agent/t5_wrong": soft.wrong,
            "agent/t5_truncated": soft.truncated,
        }
    )
    if not solved:
        console.print(_advice(module, sharp.success))


def _advice(module: PPOModule, success: float) -> str:
    stage, attempts = module.stage, module.attempt + 1
    hint = ""
    if 0.4 < success < 0.6:
        hint = " About half is what acting without the memory reaches."
    if module.solved_frames:
        hint = f" It was solved after {module.solved_frames} frames and lost it again: try a lower agent.lr."
    return (
        f"[yellow]ppo did not solve {stage.env.id}[/]: success {success:.2f} on "
        f"{stage.evaluation_episodes} fresh episodes after {attempts} attempt(s), {stage.solved_at:.2f} "
        f"wanted.{hint} Try more frames (agent.frames={2 * stage.frames}), another seed "
        f"(agent.seed={stage.seed + 1}), more attempts (agent.attempts={stage.attempts + 2}) or more "
        f"exploration (agent.entropy={2 * stage.entropy:g})."
    )


def _note(module: PPOModule) -> str:
    note = "" if module.success != module.success else f"success {module.success:.2f}"
    return note if module.attempt == 0 else f"{note} attempt {module.attempt + 1}"
