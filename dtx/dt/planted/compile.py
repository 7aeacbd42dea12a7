"""Weights of a planted model, written feature by feature. Shape suffixes: h head, d model, e head width."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from dtx.dataset.episodes import Outcome
from dtx.dt import model as models
from dtx.dt.layers import EPSILON, LayerNorm
from dtx.dt.model import DecisionTransformerModel
from dtx.dt.planted import features
from dtx.dt.planted.features import Layout, lay_out
from dtx.dt.planted.spec import PlantedSpec
from dtx.dt.planted.truth import NEURONS, TURN_SIZE
from dtx.dt.rollout import decision_contexts, greedy_by_layout
from dtx.dt.tokens import REWARD_TO_GO
from dtx.env.encoding import VIEW
from dtx.env.memory import BALL, FORWARD, KEY, LEFT, RIGHT
from dtx.errors import UserError
from dtx.report import Report

SHARP = 120.0
"""Scores of what is looked at are this much above the others, whose weights so are 0 in float32."""
FORWARD_BIAS = 10.0
MOST_OFF = 0.05
"""Share by which interference may change a logit difference."""
INSTRUCTION_CELL, LEFT_CELL, RIGHT_CELL = (2, 6), (1, 6), (5, 6)
"""Column and row of the agent's view: the instruction from the start, the two objects from the junction."""


def compile_and_verify(spec: PlantedSpec, out: Path) -> None:
    """Write the model, its features and what it does; refuse one that does not solve Memory.

    Raises:
        UserError: Superposition is so tight that parts of the circuit do not work.
    """
    layout = lay_out(spec.features(), spec.dimensions, spec.layer_norm, spec.rotation, spec.seed)
    model = compiled(spec, layout)
    env = spec.env
    targets, wanted = (0.0, spec.best_return), (Outcome.WRONG, Outcome.SUCCESS)
    right = greedy_by_layout(model, env.decision, targets) == np.array(wanted)[:, None]
    gaps = np.stack(
        [logit_differences(model, c) for c in decision_contexts(model, env.decision, targets)]
    )
    meant = 2 * TURN_SIZE * (1 - spec.negative_head)
    off = np.abs(np.abs(gaps) - meant).max()
    if not right.all() or off > MOST_OFF * meant:
        raise UserError(
            f"dt: the compiled model is right in {right.sum()} of {right.size} greedy rollouts and its logit "
            f"differences are up to {off:.1f} off {meant:g}: its features interfere too much; use more "
            f"dt.dimensions ({spec.dimensions}) or another dt.seed"
        )
    models.save(model, out)
    report = Report(out)
    report.headline(
        {
            "planted/rollouts": right.size,
            "planted/right_rollouts": int(right.sum()),
            "planted/least_logit_difference": float(np.abs(gaps).min()),
            "planted/largest_logit_difference": float(np.abs(gaps).max()),
            "planted/features": len(layout.names),
            "planted/d_model": model.cfg.d_model,
        }
    )
    columns = {f"d{i}": layout.write_fd[:, i] for i in range(layout.write_fd.shape[1])}
    report.table("features", pd.DataFrame({"feature": layout.names, **columns}))


@torch.inference_mode()
def logit_differences(model: DecisionTransformerModel, context) -> np.ndarray:
    """(b,) left minus right at the last state."""
    logits = model.last_logits(context).numpy()
    return logits[:, LEFT] - logits[:, RIGHT]


def compiled(spec: PlantedSpec, layout: Layout) -> DecisionTransformerModel:
    """The model with all weights set."""
    model = DecisionTransformerModel(spec.model_config())
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not name.endswith(".w"):  # LayerNorm's
                parameter.zero_()
        writer = _Writer(model, layout)
        _embeddings(spec, model, layout)
        writer.copy_reward_to_go(spec.paths.mean_reward_to_go)
        writer.say_high(*spec.threshold)
        writer.bring_instruction(spec)
        if spec.backup_head:
            writer.say_known(layer=1)
            writer.move_instruction(layer=2, unless_known=True)
        writer.decide(spec.deciding_layer)
        if spec.negative_head:
            writer.take_back(spec.deciding_layer + 1, spec.negative_head)
        rng = np.random.default_rng([spec.seed, 1])
        for layer, head in spec.free_heads()[: spec.distractor_heads]:
            writer.distract(layer, head, rng)
        turn = _tensor(layout.read(features.TURN))
        model.unembed.W_U[:, LEFT], model.unembed.W_U[:, RIGHT] = turn, -turn
        model.unembed.b_U[FORWARD] = FORWARD_BIAS
        for module in model.modules():
            if isinstance(module, LayerNorm):
                # It divides by what is nearly the ballast's own deviation; the weight multiplies it back.
                d = model.cfg.d_model
                module.w.fill_(float(np.sqrt(features.BALLAST**2 / d + EPSILON)))
    return model.eval()


def _embeddings(spec: PlantedSpec, model: DecisionTransformerModel, layout: Layout) -> None:
    embed, write = model.embed, layout.write

    def cell(kind: int, at: tuple[int, int]) -> int:
        return kind * VIEW * VIEW + at[0] * VIEW + at[1]

    embed.W_S[cell(KEY, INSTRUCTION_CELL)] += _tensor(write(features.KEY_SEEN))
    embed.W_S[cell(BALL, INSTRUCTION_CELL)] += _tensor(write(features.BALL_SEEN))
    half = _tensor(write(features.TARGET) / 2)
    for kind, at, sign in (
        (KEY, LEFT_CELL, 1),
        (BALL, RIGHT_CELL, 1),
        (BALL, LEFT_CELL, -1),
        (KEY, RIGHT_CELL, -1),
    ):
        embed.W_S[cell(kind, at)] += sign * half
    assert embed.W_R is not None
    embed.W_R[0] = _tensor(write(features.ASKED))
    named = {LEFT: 0, RIGHT: 1, FORWARD: 2}
    for action in range(spec.env.n_actions):
        embed.W_A[action] = _tensor(write(features.ACTIONS[named.get(action, 3)]))
    share = np.arange(len(embed.W_time)) / len(embed.W_time)
    embed.W_time[:] = _tensor(np.outer(share, write(features.TIME)))
    place = np.arange(model.cfg.n_ctx)
    rows = np.outer(features.PLACES * place / (model.cfg.n_ctx - 1), write(features.PLACE))
    asked = model.cfg.layout.is_kind(len(place), REWARD_TO_GO)
    rows += np.outer(asked, write(features.AT_REWARD_TO_GO)) + layout.ballast
    for stop, steps in enumerate(spec.paths.relays):
        at = [model.cfg.layout.last_state(step) for step in steps]
        rows[at] += write(features.at_relay(stop))
    if spec.paths.relays:
        rows[0] += write(features.AT_FIRST)
    model.pos_embed.W_pos[:] = _tensor(rows)


class _Writer:
    """Writes heads and MLPs. A head's first dimension carries what it is for; its query is a bias of 1."""

    def __init__(self, model: DecisionTransformerModel, layout: Layout):
        self.model, self.read, self.write = model, layout.read, layout.write
        self.names = layout.names
        self.root = model.cfg.d_head**0.5
        self.token = features.PLACES / (
            model.cfg.n_ctx - 1
        )  # what the place grows by, token to token

    def _head(
        self, layer: int, head: int, key: np.ndarray, value: np.ndarray, out: np.ndarray
    ) -> None:
        attn = self.model.blocks[layer].attn
        attn.b_Q[head, 0] = 1.0
        attn.W_K[head, :, 0] = _tensor(self.root * key)
        attn.W_V[head, :, 0] = _tensor(value)
        attn.W_O[head, 0] = _tensor(out)

    def copy_reward_to_go(self, mean: bool) -> None:
        """Head 0 of the first block: from the last reward-to-go token to all tokens of the step.

        Args:
            mean: From all of them alike instead.
        """
        value = self.read(features.ASKED, "reward_to_go")
        if mean:
            key = SHARP * self.read(features.AT_REWARD_TO_GO, "all")
            self._head(0, 0, key, value, self.write(features.HERE))
            return
        later = SHARP / (self.model.cfg.layout.per_step * self.token)  # so much for each step later
        key = later * self.read(features.PLACE, "all")
        most = later * features.PLACES
        key = key + (most + SHARP) * self.read(features.AT_REWARD_TO_GO, "all")
        self._head(0, 0, key, value, self.write(features.HERE))

    def say_high(self, low: float, high: float) -> None:
        """The first MLP: -1 below ``low``, 1 above ``high``, straight in between."""
        mlp, out = self.model.blocks[0].mlp, _tensor(self.write(features.HIGH))
        asked, slope = _tensor(self.read(features.HERE)), 2 / (high - low)
        for neuron, (edge, sign) in enumerate(((low, 1), (high, -1))):
            mlp.W_in[:, neuron], mlp.b_in[neuron] = asked, -edge
            mlp.W_out[neuron] = sign * slope * out
        mlp.b_out[:] = -out

    def bring_instruction(self, spec: PlantedSpec) -> None:
        """From the token that shows it to the decision: straight, by other tokens, or by two heads."""
        paths = spec.paths
        for stop in range(len(paths.relays)):
            self.relay(stop)
        if paths.relays:
            last = len(paths.relays) - 1
            key, value = features.at_relay(last), self.read(features.relayed(last))
            key, out = SHARP * self.read(key, "all"), self.write(features.INSTRUCTION)
            self._head(spec.moving_layer, 0, key, value, out)
        elif paths.redundant_heads:
            for head in (0, 1):
                self.move_instruction(1, head, self.write(features.TWICE))
            self.say_once(1)
        else:
            self.move_instruction(1)
        if paths.silent_head:
            self.move_instruction(*spec.silent_slot, 0 * self.write(features.INSTRUCTION))

    def relay(self, stop: int) -> None:
        """Head 0: to the tokens of a stop, from the stop before or from where the instruction is shown.

        All other tokens look at the first one, which has nothing of it.
        """
        if stop:
            seen = self.read(features.at_relay(stop - 1), "all")
            value = self.read(features.relayed(stop - 1))
        else:
            seen = self.read(features.KEY_SEEN, "all") + self.read(features.BALL_SEEN, "all")
            value = self.read(features.KEY_SEEN) - self.read(features.BALL_SEEN)
        first = SHARP * self.read(features.AT_FIRST, "all")
        self._head(1 + stop, 0, first, value, self.write(features.relayed(stop)))
        attn = self.model.blocks[1 + stop].attn
        attn.W_Q[0, :, 1] = _tensor(self.read(features.at_relay(stop), "all"))
        attn.W_K[0, :, 1] = _tensor(self.root * 2 * SHARP * seen)

    def say_once(self, layer: int) -> None:
        """What two heads brought, between -1 and 1: the same if one of them is silent."""
        mlp, out = self.model.blocks[layer].mlp, _tensor(self.write(features.INSTRUCTION))
        for neuron, sign in enumerate((1, -1)):
            mlp.W_in[:, neuron], mlp.b_in[neuron] = _tensor(self.read(features.TWICE)), float(sign)
            mlp.W_out[neuron] = sign * out
        mlp.b_out[:] = -out

    def move_instruction(
        self,
        layer: int,
        head: int = 0,
        out: np.ndarray | None = None,
        *,
        unless_known: bool = False,
    ) -> None:
        """A head: from the token that shows the instruction, if there is one, to all later ones.

        Args:
            out: What it writes; None: the instruction as the deciding MLP reads it.
            unless_known: Where it is known already, look away from that token instead.
        """
        key_seen = self.read(features.KEY_SEEN, "all")
        ball_seen = self.read(features.BALL_SEEN, "all")
        out = self.write(features.INSTRUCTION) if out is None else out
        value = self.read(features.KEY_SEEN) - self.read(features.BALL_SEEN)
        self._head(layer, head, SHARP * (key_seen + ball_seen), value, out)
        if unless_known:
            attn = self.model.blocks[layer].attn
            attn.W_Q[head, :, 0] = _tensor(-2 * self.read(features.SEEN))

    def say_known(self, layer: int) -> None:
        """The size of the instruction: 0 where no head has brought it."""
        mlp = self.model.blocks[layer].mlp
        for neuron, sign in enumerate((1, -1)):
            mlp.W_in[:, neuron] = _tensor(sign * self.read(features.INSTRUCTION))
            mlp.W_out[neuron] = _tensor(self.write(features.SEEN))

    def decide(self, layer: int) -> None:
        """A neuron for each combination; it is 1 if all three signs are its own, else 0."""
        mlp = self.model.blocks[layer].mlp
        read = [self.read(n) for n in (features.INSTRUCTION, features.TARGET, features.HIGH)]
        for neuron, signs in enumerate(NEURONS):
            mlp.W_in[:, neuron] = _tensor(sum(s * r for s, r in zip(signs, read, strict=True)))
            mlp.b_in[neuron] = -2.0
            turn = TURN_SIZE * int(np.prod(signs)) * self.write(features.TURN)
            mlp.W_out[neuron] = _tensor(turn)

    def take_back(self, layer: int, share: float) -> None:
        """Head 0: each token writes a share of its own turn with the other sign."""
        key = SHARP / self.token * self.read(features.PLACE, "all")
        turn = self.read(features.TURN)
        self._head(layer, 0, key, turn, -share * self.write(features.TURN))

    def distract(self, layer: int, head: int, rng: np.random.Generator) -> None:
        """Random looks at random features, of which values go where nothing else reads."""
        attn = self.model.blocks[layer].attn
        read = np.stack([self.read(name, "all") for name in self.names])
        write = np.stack([self.write(name) for name in features.DISTRACTION])
        for name in "QKV":
            mixture = rng.normal(size=(len(self.names), self.model.cfg.d_head))
            # The turn is large, and is not there before the decision.
            mixture[self.names.index(features.TURN)] /= TURN_SIZE
            getattr(attn, f"W_{name}")[head] = _tensor(read.T @ mixture)
        attn.W_O[head] = _tensor(rng.normal(size=(self.model.cfg.d_head, len(write))) @ write / 8)


def _tensor(values) -> torch.Tensor:
    return torch.as_tensor(np.asarray(values), dtype=torch.float32)
