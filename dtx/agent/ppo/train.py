"""An agent's training from start to end: learn, measure on fresh episodes, report, save."""

from __future__ import annotations

from pathlib import Path

from dtx.agent.network import save
from dtx.agent.ppo.module import PPOModule
from dtx.agent.ppo.spec import PPOSpec
from dtx.progress import console
from dtx.report import Report
from dtx.training.fit import fit
from dtx.training.threads import one_thread

SOFT = 5.0
"""The MemoryDT study's second temperature, at which the teacher's mistakes are collected."""


def train(spec: PPOSpec, out: Path, name: str = "ppo") -> None:
    """Train an agent and write its weights, curves and headline numbers.

    Args:
        spec: The settings.
        out: Folder of the artefact; a checkpoint there is resumed.
        name: On the progress bar.
    """
    report = Report(out)
    with one_thread():
        module = PPOModule(spec, report)
        given_up = -(-spec.give_up_at // spec.frames_an_iteration) if spec.attempts > 1 else 0
        fit(
            module,
            out,
            spec.iterations + (spec.attempts - 1) * given_up,
            name=name,
            unit="frames",
            amount=spec.frames_an_iteration,
            checkpoint_every=spec.checkpoint_every,
            note=lambda: _note(module),
            shown=spec.iterations,
        )
        _conclude(module, report)
    save(module.agent, out)


def _conclude(module: PPOModule, report: Report) -> None:
    """Measure the final weights on fresh episodes and write the headline."""
    spec = module.spec
    sharp = module.measure(spec.evaluation_episodes, 1.0, "end")
    soft = module.measure(spec.evaluation_episodes, SOFT, "end at temperature 5")
    solved = sharp.success >= spec.solved_at
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
    spec, attempts = module.spec, module.attempt + 1
    hint = ""
    if 0.4 < success < 0.6:
        hint = " About half is what acting without the memory reaches."
    if module.solved_frames:
        hint = f" It was solved after {module.solved_frames} frames and lost it again: try a lower agent.lr."
    return (
        f"[yellow]ppo did not solve {spec.env.id}[/]: success {success:.2f} on "
        f"{spec.evaluation_episodes} fresh episodes after {attempts} attempt(s), {spec.solved_at:.2f} "
        f"wanted.{hint} Try more frames (agent.frames={2 * spec.frames}), another seed "
        f"(agent.seed={spec.seed + 1}), more attempts (agent.attempts={spec.attempts + 2}) or more "
        f"exploration (agent.entropy={2 * spec.entropy:g})."
    )


def _note(module: PPOModule) -> str:
    note = "" if module.success != module.success else f"success {module.success:.2f}"
    return note if module.attempt == 0 else f"{note} attempt {module.attempt + 1}"
