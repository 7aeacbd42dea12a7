"""Training of a Decision Transformer: a Lightning module whose every step follows from its number."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dtx.dt import model as models
from dtx.dt.context import Packed
from dtx.dt.decision_transformer import DecisionTransformer, Method, Precision
from dtx.dt.model import DecisionTransformerModel
from dtx.dt.rollout import decision_contexts
from dtx.dt.training.optimiser import Muon, learning_rate_share, split_parameters
from dtx.dt.windows import Sampler
from dtx.errors import UserError
from dtx.report import Report
from dtx.training.fit import fit
from dtx.training.ranks import ALONE, Rank, train_together
from dtx.training.resumable import ResumableModule
from dtx.training.threads import one_thread
from dtx.training.trainer import Accelerator

VALIDATION_SEED = 2**63
"""Added to the seed for the fixed validation windows, so that no training step has their numbers."""


def train(stage: DecisionTransformer, out: Path) -> None:
    """Run the stage: train from ``out``'s last checkpoint on, and write the model."""
    chosen = stage.trainer
    if chosen.accelerator is Accelerator.gpu and torch.cuda.device_count() < chosen.devices:
        raise UserError(
            f"dt.trainer: {chosen.devices} GPU(s) are wanted and {torch.cuda.device_count()} are here; "
            "use fewer trainer.devices or trainer.accelerator=cpu"
        )
    if not chosen.parallel:
        train_rank(ALONE, stage, out)
        return
    backend = "nccl" if chosen.accelerator is Accelerator.gpu else "gloo"
    train_together(chosen.devices, backend, train_rank, stage, out)


def train_rank(rank: Rank, stage: DecisionTransformer, out: Path) -> None:
    """What each process does. Rank 0 writes the files."""
    episodes = stage.demonstrations()
    cfg = stage.model_config()
    sampler = Sampler(episodes, cfg, stage.windows, split=0)
    cfg.half_products = half_products(stage.precision, stage.trainer.accelerator)
    network = DecisionTransformerModel(cfg)
    models.initialise(
        network, stage.initialisation.matrix_std, stage.initialisation.embedding_std, stage.seed
    )
    if stage.initialisation.centre_state:
        centre_state(network, sampler.mean_one_hot())
    report = Report(out)
    validation = None
    if (np.asarray(episodes.split) == 1).any():
        validation = Sampler(episodes, cfg, stage.windows, split=1)
    module = Training(stage, network, sampler, validation, report, rank)
    (out / "checkpoints").mkdir(exist_ok=True)
    if stage.kept_checkpoints and rank.first:
        module.keep(0)
    with one_thread():
        fit(
            module,
            out,
            stage.steps,
            name="dt",
            unit="windows",
            amount=stage.batch_size,
            checkpoint_every=stage.checkpoint_every,
            note=module.note,
            accelerator=stage.trainer.accelerator.value,
            rank=rank,
        )
        if rank.first:
            models.save(network, out)
            report.headline(module.headline())


def half_products(precision: Precision, accelerator: Accelerator = Accelerator.cpu) -> bool:
    """Whether training's matrix products take bfloat16 factors on this machine."""
    if precision is Precision.auto and accelerator is Accelerator.gpu:
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if precision is Precision.auto:
        return bool(torch.cpu._is_avx512_bf16_supported())
    return precision is Precision.bfloat16


def centre_state(network: DecisionTransformerModel, mean_one_hot: Tensor) -> None:
    """Set the state embedding's bias so that the mean observation embeds as 0.

    Most of an observation's 147 active channels are the same in all of them; without this their sum
    drowns what differs.
    """
    bias = network.embed.b_S
    assert bias is not None
    with torch.no_grad():
        bias.copy_(-(mean_one_hot @ network.embed.W_S))


def steering_probe(
    stage: DecisionTransformer, network: DecisionTransformerModel
) -> Callable[[], dict[str, float]]:
    """A function that measures what is chosen at the decision square, mean over layouts.

    At reward-to-go 0 and .9: probabilities of the turns to the goal and away from it. It computes
    8 short contexts, made once. Environments without a decision square give nothing.
    """
    env = stage.dataset.environment
    if env is None or env.decision is None:
        return dict
    decision = env.decision
    targets = {"low": 0.0, "high": 0.9}
    contexts = decision_contexts(network, decision, list(targets.values()))
    layouts = np.arange(len(decision.layouts))
    right, wrong = decision.turns(layouts)
    turns = {"right_turn": right, "wrong_turn": wrong}

    @torch.no_grad()
    def probe() -> dict[str, float]:
        found = {}
        for name, context in zip(targets, contexts, strict=True):
            logits = network.last_logits(context.to(network.unembed.b_U.device))
            chances = logits.softmax(-1).cpu().numpy()
            for turn, actions in turns.items():
                found[f"{turn}_at_{name}"] = float(chances[layouts, actions].mean())
        return found

    return probe


def kept_steps(steps: int, count: int) -> set[int]:
    """About ``count`` steps from 1 to ``steps``, evenly spaced in their logarithm."""
    if steps < 1 or count < 1:
        return set()
    return {round(s) for s in np.geomspace(1, steps, count)} | {steps}


def weighted_loss(logits: Tensor, batch: Packed) -> tuple[Tensor, Tensor]:
    """Mean cross-entropy and accuracy of the actions at real state tokens, every drawn window counted.

    Of a rank's share of a batch: its part of these two; the parts of all ranks add up to them.

    Args:
        logits: (states, a). batch: Its targets and weights are used.
    """
    each = F.cross_entropy(logits.float(), batch.target, reduction="none")
    right = ((logits.argmax(-1) == batch.target) * batch.weight).sum() / batch.total
    return (each * batch.weight).sum() / batch.total, right


class Training(ResumableModule):
    """One optimisation step a call; manual, so that all of a step is done when it returns.

    Args:
        stage: The settings.
        network: The model, held and not inherited.
        sampler: Training windows. validation: Validation windows, if there are such episodes.
        report: Where curves go.
        rank: Which of the processes that share every batch this is.
    """

    def __init__(
        self,
        stage: DecisionTransformer,
        network: DecisionTransformerModel,
        sampler: Sampler,
        validation: Sampler | None,
        report: Report,
        rank: Rank = ALONE,
    ):
        super().__init__()
        self.automatic_optimization = False
        self.stage, self.network, self.sampler, self.report = stage, network, sampler, report
        self.rank = rank
        self._validation: list[Packed] = []
        if validation is not None:
            seed = VALIDATION_SEED + stage.seed
            self._validation = [validation.batch(seed, 0, stage.validation_windows)]
        self._probe = steering_probe(stage, network)
        self._kept = kept_steps(stage.steps, stage.kept_checkpoints)
        self._sums = torch.zeros(4, dtype=torch.float64)  # loss, accuracy, gradient norm, steps
        self._last: dict[str, float] = {}
        self._windows = self._distinct = self._flops = 0.0
        self._started = time.process_time()

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Muon and AdamW, or AdamW alone; the learning rate is set at every step."""
        chosen = self.stage.optimiser
        hidden, rest = split_parameters(self.network)
        if chosen.method is Method.adamw:
            matrices = [p for p in self.network.parameters() if p.ndim > 1]
            vectors = [p for p in self.network.parameters() if p.ndim <= 1]
            groups = [
                {"params": matrices, "weight_decay": chosen.weight_decay},
                {"params": vectors, "weight_decay": 0.0},
            ]
            return [self._adamw(groups)]
        return [
            Muon(
                hidden,
                chosen.matrix_learning_rate,
                chosen.weight_decay,
                self.network.cfg.half_products,
            ),
            self._adamw([{"params": rest, "weight_decay": chosen.weight_decay}]),
        ]

    def _adamw(self, groups: list[dict]) -> torch.optim.Optimizer:
        chosen = self.stage.optimiser
        return torch.optim.AdamW(groups, lr=chosen.learning_rate, betas=chosen.betas, fused=True)

    def training_step(self, step: int, _: int) -> None:
        """Train on the windows of a step and write what is due after it."""
        chosen = self.stage.optimiser
        share = learning_rate_share(
            step, self.stage.steps, chosen.warm_up, chosen.cycles, chosen.final_share
        )
        batch = self.sampler.batch(self.stage.seed, step, self.stage.batch_size, self.rank)
        batch = batch.to(self.device)
        loss, accuracy = weighted_loss(self.network.packed(batch), batch)
        optimizers = self.optimizers(use_pl_optimizer=False)
        optimizers = optimizers if isinstance(optimizers, list) else [optimizers]
        for parameter in self.network.parameters():
            parameter.grad = None
        # Gradients of several ranks are averaged, and parts of the loss are to be added.
        self.manual_backward(loss * self.rank.count if self.rank.count > 1 else loss)
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), chosen.gradient_norm)
        for optimizer in optimizers:
            full = (
                chosen.matrix_learning_rate if isinstance(optimizer, Muon) else chosen.learning_rate
            )
            for group in optimizer.param_groups:
                group["lr"] = full * share
            optimizer.step()
        told = torch.stack([loss.detach(), accuracy])
        if self.rank.count > 1:
            torch.distributed.all_reduce(told)
        self._sums += torch.tensor([*told.tolist(), norm.item(), 1], dtype=torch.float64)
        self._windows += batch.windows
        self._distinct += batch.target.numel()
        self._flops += models.packed_flops(self.network.cfg, batch)
        done = step + 1
        if not self.rank.first:
            return
        if done in self._kept:
            self.keep(done)
        if done % self.stage.log_every == 0 or done == self.stage.steps:
            self._log(done, share * chosen.learning_rate)

    def keep(self, step: int) -> None:
        """Keep the weights after a step."""
        path = self.report.out / "checkpoints" / f"step-{step:06d}.safetensors"
        models.save_weights(self.network, path)

    def _log(self, step: int, learning_rate: float) -> None:
        loss, accuracy, norm, count = self._sums.tolist()
        self._sums.zero_()
        values = {
            "loss": loss / count,
            "accuracy": accuracy / count,
            "gradient_norm": norm / count,
            "learning_rate": learning_rate,
            **self.validate(),
            **self._probe(),
        }
        self._last = values
        self.report.curve(step, values)
        seconds = max(time.process_time() - self._started, 1e-9)
        self.report.timing(
            step,
            {
                "cpu_seconds": seconds,
                "windows_per_cpu_second": self._windows / seconds,
                "states_per_cpu_second": self._distinct / seconds,
                "gflop_per_cpu_second": self._flops / seconds / 1e9,
            },
        )

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Loss and accuracy on the fixed validation windows."""
        if not self._validation:
            return {}
        batch = self._validation[0].to(self.network.unembed.b_U.device)
        loss, accuracy = weighted_loss(self.network.packed(batch), batch)
        return {"validation_loss": loss.item(), "validation_accuracy": accuracy.item()}

    def headline(self) -> dict[str, float | None]:
        """Final numbers of the run."""
        final = {**self.validate(), **{k: v for k, v in self._last.items() if k == "loss"}}
        return {f"dt/{k}": v for k, v in final.items()}

    def note(self) -> str:
        """Text at the end of the progress bar."""
        return f"loss {self._last['loss']:.3f}" if self._last else ""

    def resume_state(self) -> dict:
        """What a checkpoint holds beside weights and optimisers."""
        return {"sums": self._sums.clone(), "last": dict(self._last)}

    def load_resume_state(self, state: dict) -> None:
        """Take up :meth:`resume_state`."""
        self._sums, self._last = state["sums"], state["last"]
