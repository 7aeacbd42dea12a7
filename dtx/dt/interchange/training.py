"""Training and measuring of ``dt=interchange``: a Lightning module whose steps follow from their number.

Letters: b windows.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dtx.dt import model as models
from dtx.dt.interchange.measure import measure
from dtx.dt.interchange.patch import last_token, run_interchanged, run_plain
from dtx.dt.interchange.routes import RouteSampler, turn
from dtx.dt.interchange.spec import InterchangeSpec
from dtx.dt.model import DecisionTransformerModel
from dtx.dt.training.optimiser import learning_rate_share
from dtx.report import Report
from dtx.training.fit import fit
from dtx.training.resumable import ResumableModule
from dtx.training.threads import one_thread


def train(spec: InterchangeSpec, out: Path) -> None:
    """Run the stage: train from ``out``'s last checkpoint on, measure, and write the model."""
    network = DecisionTransformerModel(spec.model_config())
    models.initialise(network, None, 0.15, spec.seed)
    sampler, held_out = RouteSampler(spec, held_out=False), RouteSampler(spec, held_out=True)
    models.centre_state(network, sampler.table[:-1].mean(0))
    report = Report(out)
    module = InterchangeModule(spec, network, sampler, report)
    with one_thread():
        fit(
            module,
            out,
            spec.steps,
            name="interchange",
            unit="windows",
            amount=spec.batch_size,
            checkpoint_every=spec.checkpoint_every,
            note=module.note,
        )
        network.eval()
        measured = measure(spec, network, held_out)
    models.save(network, out)
    measured.circuit.save(out)
    report.table("heads", measured.heads)
    report.table("inputs", measured.inputs)
    report.headline(measured.headline)


class InterchangeModule(ResumableModule):
    """One optimisation step a call.

    Args:
        spec: The settings. network: The model. sampler: Training windows. report: Where curves go.
    """

    def __init__(
        self,
        spec: InterchangeSpec,
        network: DecisionTransformerModel,
        sampler: RouteSampler,
        report: Report,
    ):
        super().__init__()
        self.automatic_optimization = False
        self.spec, self.network, self.sampler, self.report = spec, network, sampler, report
        generator = torch.Generator().manual_seed(spec.seed)
        self.readouts = nn.ModuleList(nn.Linear(network.cfg.d_head, 1) for _ in range(2))
        for readout in self.readouts:
            nn.init.normal_(readout.weight, std=network.cfg.d_head**-0.5, generator=generator)
            nn.init.zeros_(readout.bias)
        self._last: dict[str, float] = {}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW; the learning rate is set at every step."""
        matrices = [p for p in self.parameters() if p.ndim > 1]
        vectors = [p for p in self.parameters() if p.ndim <= 1]
        groups = [
            {"params": matrices, "weight_decay": self.spec.weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=self.spec.learning_rate, betas=(0.9, 0.98), fused=True)

    def training_step(self, step: int, _: int) -> None:
        """Task, interchange and guidance losses on the windows of a step."""
        spec, network = self.spec, self.network
        rng = np.random.Generator(np.random.Philox(key=np.array([spec.seed, step], np.uint64)))
        batch = self.sampler.batch(rng, spec.batch_size)
        logits, z = run_plain(network, batch)
        smooth = spec.smoothing
        each = F.cross_entropy(
            logits.transpose(1, 2), batch.target, reduction="none", label_smoothing=smooth
        )
        # The decision is one state of six and the only hard one.
        rows, weight = torch.arange(spec.batch_size), batch.real.float()
        weight[rows, batch.decision] = 4.0
        task = (each * weight).sum() / weight.sum()

        own = rows.clone()
        source = {
            name: torch.where(
                torch.from_numpy(rng.random(len(rows)) < 0.5), _shuffled(rng, len(rows)), own
            )
            for name in ("instruction", "reward_to_go")
        }
        heads = {getattr(spec.aligned, name): chosen for name, chosen in source.items()}
        interchanged = run_interchanged(network, batch, z, heads, _shuffled(rng, len(rows)))
        wanted = turn(
            batch.instruction[source["instruction"]],
            batch.side,
            batch.high[source["reward_to_go"]],
        )
        interchange = F.cross_entropy(interchanged, wanted, label_smoothing=smooth)

        values = {"instruction": batch.instruction, "reward_to_go": batch.high}
        guided = torch.stack(
            [
                F.binary_cross_entropy_with_logits(
                    readout(z[0][rows, last_token(batch), getattr(spec.aligned, name)]).squeeze(1),
                    value.float(),
                )
                for readout, (name, value) in zip(self.readouts, values.items(), strict=True)
            ]
        ).sum()
        fade = spec.guidance.share * spec.steps
        guidance = spec.guidance.weight * max(0.0, 1 - step / fade) if fade else 0.0

        optimizer = self.optimizers(use_pl_optimizer=False)
        assert isinstance(optimizer, torch.optim.Optimizer)
        optimizer.zero_grad(set_to_none=True)
        self.manual_backward(task + interchange + guidance * guided)
        nn.utils.clip_grad_norm_(self.parameters(), 1.0)
        share = learning_rate_share(step, spec.steps, spec.warm_up, 1, 0.0)
        for group in optimizer.param_groups:
            group["lr"] = spec.learning_rate * share
        optimizer.step()
        done = step + 1
        if done % spec.log_every == 0 or done == spec.steps:
            self._last = {
                "task_loss": task.item(),
                "interchange_loss": interchange.item(),
                "interchange_accuracy": (interchanged.argmax(-1) == wanted).float().mean().item(),
                "guidance_loss": guided.item(),
                "guidance": guidance,
            }
            self.report.curve(done, self._last)

    def note(self) -> str:
        """Text at the end of the progress bar."""
        return f"interchange {self._last['interchange_accuracy']:.3f}" if self._last else ""

    def resume_state(self) -> dict:
        """What a checkpoint holds beside weights and optimisers."""
        return {"last": dict(self._last)}

    def load_resume_state(self, state: dict) -> None:
        """Take up :meth:`resume_state`."""
        self._last = state["last"]


def _shuffled(rng: np.random.Generator, count: int) -> Tensor:
    return torch.from_numpy(rng.permutation(count))
