"""Load a stage's model for use: as it was at a step, for an environment, or the same untrained."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from dtx.dt.model_stage import ModelStage
from dtx.env.environment import Environment
from dtx.errors import UserError

if TYPE_CHECKING:
    from dtx.dt.model import DecisionTransformerModel
    from dtx.dt.model_config import ModelConfig
    from dtx.dt.sizes import Sizes


def load_at(
    dt: ModelStage,
    checkpoint: int | None,
    env: Environment | None = None,
    *,
    plays: bool = False,
) -> DecisionTransformerModel:
    """The model as it was at a step.

    Args:
        dt: Committed.
        checkpoint: Step of a kept checkpoint; None: the model as it is at last.
        env: Where its windows come from; it must fit the model.
        plays: Whole episodes are played there.

    Raises:
        UserError: No checkpoint of that step was kept, or the environment does not fit.
    """
    model = _at(dt, checkpoint)
    if env is not None:
        check_fits(model, env, dt.label, plays=plays)
    return model


def _at(dt: ModelStage, checkpoint: int | None) -> DecisionTransformerModel:
    if checkpoint is None:
        return dt.load()
    kept = dt.checkpoints()
    if checkpoint not in kept:
        known = ", ".join(map(str, sorted(kept))) or "none"
        raise UserError(f"checkpoint={checkpoint}: {dt.label} kept no such step (kept: {known})")
    from dtx.dt.model import load

    return load(dt.path, kept[checkpoint])


def check_fits(
    model: DecisionTransformerModel, env: Environment, label: str, *, plays: bool = True
) -> None:
    """Raise a UserError if a model cannot act in an environment: other actions, or too few timesteps.

    Args:
        model: Any. env: Where it is to act. label: Of the model's stage, for the message.
        plays: Whole episodes; else only windows, up to the decision at the latest.
    """
    if wrong := misfit(model.cfg, env, plays=plays):
        raise UserError(f"{label} {wrong}")


def misfit(shape: ModelConfig | Sizes, env: Environment, *, plays: bool) -> str | None:
    """Why a model cannot act in an environment, and what to do; None if it can. See :func:`check_fits`."""
    if shape.n_actions != env.n_actions:
        return (
            f"has {shape.n_actions} actions, but {env.id} has {env.n_actions}: choose the environment "
            "that it was trained in (env=...)"
        )
    if shape.time_embedding != "learned":
        return None
    if not plays:
        decision = 0 if env.decision is None else env.decision.step
        if shape.n_timesteps <= decision:
            return (
                f"knows {shape.n_timesteps} timesteps, but the decision of {env.id} comes after "
                f"{decision}: choose the environment that it was trained in (env=...)"
            )
    elif shape.n_timesteps < env.horizon:
        return (
            f"knows {shape.n_timesteps} timesteps, but an episode of {env.id} may last {env.horizon}: "
            f"set env.max_steps to at most {shape.n_timesteps}"
        )
    return None


def untrained_like(model: DecisionTransformerModel, seed: int) -> DecisionTransformerModel:
    """The same architecture with fresh weights: the control of what training did.

    Hidden matrices have standard deviation 1/sqrt(inputs) and embeddings .15, as in ``dt=memory_dt``.
    """
    from dtx.dt.model import DecisionTransformerModel, initialise

    fresh = DecisionTransformerModel(replace(model.cfg))  # with switches of its own
    initialise(fresh, None, 0.15, seed)
    return fresh.eval()
