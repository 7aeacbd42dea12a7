"""Tell a model that it is later or earlier than it is: time embeddings and places of another step.

Shape suffixes: k windows, n token, d model.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dtx.dt.context import Context
from dtx.dt.model import DecisionTransformerModel, Embedding
from dtx.dt.model_config import ModelConfig
from dtx.dt.processing import copy_of


class ShiftedTime(Embedding):
    """An embedding whose timesteps are those of so many steps later; at the ends time stands still."""

    def __init__(self, cfg: ModelConfig, by: int):
        super().__init__(cfg)
        self.by = by

    def time(self, timestep: Tensor) -> Tensor:
        """Embed timesteps (...) as (..., d)."""
        return super().time((timestep + self.by).clamp(0, self.cfg.n_timesteps - 1))


def place_tells_time(cfg: ModelConfig, horizon: int) -> bool:
    """Whether a token's place in its window says at which step of the episode it is."""
    return cfg.positional_embedding and not cfg.left_padding and cfg.n_steps >= horizon


def reset_clock(model: DecisionTransformerModel, by: int, horizon: int) -> DecisionTransformerModel:
    """A copy that takes every step for one ``by`` steps later: all that tells it the time is moved."""
    twin = copy_of(model, model.W_U.dtype)
    embed = ShiftedTime(model.cfg, by)
    embed.load_state_dict(twin.embed.state_dict())
    twin.embed = embed.requires_grad_(False)
    if place_tells_time(model.cfg, horizon):
        layout, place_n = model.cfg.layout, torch.arange(model.cfg.n_ctx)
        step_n = (place_n // layout.per_step + by).clamp(0, model.cfg.n_steps - 1)
        moved_n = (step_n * layout.per_step + place_n % layout.per_step).clamp(
            max=model.cfg.n_ctx - 1
        )
        twin.pos_embed.W_pos.copy_(model.pos_embed.W_pos.detach()[moved_n])
    twin.setup()
    return twin.eval()


def shifted(
    model: DecisionTransformerModel, context: Context, by_k: Tensor, *, time: bool, place: bool
) -> Tensor:
    """The embedding (k, n, d) of windows whose last step believes to be ``by_k`` (k,) steps later.

    Args:
        model: Any. context: Equally long windows.
        by_k: Within the model's timesteps.
        time: Move the time embedding. place: Move the place in the window.
    """
    resid_knd = model.residual(context, 0).clone()
    layout, n = model.cfg.layout, resid_knd.shape[1]
    last = slice(n - 1 - layout.first_state, n)  # the last step's tokens, up to its state
    if time:
        now_k = context["timestep"][:, -1]
        change_kd = model.embed.time(now_k + by_k) - model.embed.time(now_k)
        resid_knd[:, last] += change_kd[:, None]
    if place:
        table, place_n = model.pos_embed.W_pos, torch.arange(n)[last]
        moved_kn = place_n + by_k[:, None] * layout.per_step
        resid_knd[:, last] += table[moved_kn] - table[place_n]
    return resid_knd
