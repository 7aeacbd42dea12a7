"""Training of a Decision Transformer: a Lightning module whose every step follows from its number."""

from __future__ import annotations

import time

import torch
import torch.nn.functional as F
from torch import Tensor

from dtx.dt import model as models
from dtx.dt.context import Packed
from dtx.dt.model import DecisionTransformerModel
from dtx.dt.training.optimiser import Muon, learning_rate_share, split_parameters
from dtx.dt.training.probe import decision_probe
from dtx.dt.training.spec import OptimiserKind, TrainingSpec
from dtx.dt.windows import Sampler
from dtx.report import Report
from dtx.training.ranks import ALONE, Rank
from dtx.training.resumable import ResumableModule

VALIDATION_SEED = 2**63
"""Added to the seed for the fixed validation windows, so that no training step has their numbers."""


class DecisionTransformerModule(ResumableModule):
    """One optimisation step a call; manual, so that all of a step is done when it returns.

    Args:
        spec: The settings.
        network: The model, held and not inherited.
        sampler: Training windows. validation: Validation windows, if there are such episodes.
        report: Where curves go.
        rank: Which of the processes that share every batch this is.
    """

    def __init__(
        self,
        spec: TrainingSpec,
        network: DecisionTransformerModel,
        sampler: Sampler,
        validation: Sampler | None,
        report: Report,
        rank: Rank = ALONE,
    ):
        super().__init__()
        self.automatic_optimization = False
        self.spec, self.network, self.sampler, self.report = spec, network, sampler, report
        self.rank = rank
        self._validation: list[Packed] = []
        if validation is not None:
            seed = VALIDATION_SEED + spec.seed
            self._validation = [validation.batch(seed, 0, spec.validation_windows)]
        env = spec.dataset.environment
        self._probe = decision_probe(None if env is None else env.decision, network)
        self._kept = spec.kept_steps
        self._sums = torch.zeros(4, dtype=torch.float64)  # loss, accuracy, gradient norm, steps
        self._last: dict[str, float] = {}
        self._windows = self._distinct = self._flops = 0.0
        self._started = time.process_time()

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Muon and AdamW, or AdamW alone; the learning rate is set at every step."""
        chosen = self.spec.optimiser
        hidden, rest = split_parameters(self.network)
        if chosen.method is OptimiserKind.adamw:
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
        chosen = self.spec.optimiser
        return torch.optim.AdamW(groups, lr=chosen.learning_rate, betas=chosen.betas, fused=True)

    def training_step(self, step: int, _: int) -> None:
        """Train on the windows of a step and write what is due after it."""
        chosen = self.spec.optimiser
        share = learning_rate_share(
            step, self.spec.steps, chosen.warm_up, chosen.cycles, chosen.final_share
        )
        batch = self.sampler.batch(self.spec.seed, step, self.spec.batch_size, self.rank)
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
        means = torch.stack([loss.detach(), accuracy])
        if self.rank.count > 1:
            torch.distributed.all_reduce(means)
        self._sums += torch.tensor([*means.tolist(), norm.item(), 1], dtype=torch.float64)
        self._windows += batch.windows
        self._distinct += batch.target.numel()
        self._flops += models.packed_flops(self.network.cfg, batch)
        done = step + 1
        if not self.rank.first:
            return
        if done in self._kept:
            self.keep(done)
        if done % self.spec.log_every == 0 or done == self.spec.steps:
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
        """Final numbers of the run, and whether products were taken in bfloat16.

        ``precision: auto`` is one key on every processor, but gives other weights where bfloat16 is fast.
        """
        final = {**self.validate(), **{k: v for k, v in self._last.items() if k == "loss"}}
        ran = {"bfloat16": float(self.network.cfg.half_products)} if self.spec.steps else {}
        return {f"dt/{k}": v for k, v in {**final, **ran}.items()}

    def note(self) -> str:
        """Text at the end of the progress bar."""
        return f"loss {self._last['loss']:.3f}" if self._last else ""

    def resume_state(self) -> dict:
        """What a checkpoint holds beside weights and optimisers."""
        return {"sums": self._sums.clone(), "last": dict(self._last)}

    def load_resume_state(self, state: dict) -> None:
        """Take up :meth:`resume_state`."""
        self._sums, self._last = state["sums"], state["last"]


def weighted_loss(logits: Tensor, batch: Packed) -> tuple[Tensor, Tensor]:
    """Mean cross-entropy and accuracy of the actions at real state tokens, every drawn window counted.

    Of a rank's share of a batch: its part of these two; the parts of all ranks add up to them.

    Args:
        logits: (states, a). batch: Its targets and weights are used.
    """
    each = F.cross_entropy(logits.float(), batch.target, reduction="none")
    right = ((logits.argmax(-1) == batch.target) * batch.weight).sum() / batch.total
    return (each * batch.weight).sum() / batch.total, right
