"""What all kinds of dictionaries share in training: weights, limits of them, and their file.

Training sees activations that are centred at their mean and scaled (:class:`dtx.dictionary.rows.Scale`), so
that one learning rate fits all hooks; :meth:`Network.folded` gives weights for the model's own activations.

Letters: n rows of a batch, d activation that is read, o activation that is reconstructed, f feature.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dtx.dictionary.autoencoder import SparseAutoencoder
from dtx.dictionary.rows import Scale
from dtx.dictionary.spec import How

LEAST_COSINE = 0.8
"""Of a direction of a soft-frozen decoder with the random one that it started from."""


@dataclass(frozen=True)
class Planned:
    """A dictionary that is to be trained.

    Attributes:
        name: Of its folder. hook: The activation. sparsity: k, or the weight of a penalty.
    """

    name: str
    hook: str
    width: int
    sparsity: float
    seed: int
    how: How


@dataclass(frozen=True)
class Schedule:
    """What a step of training has to know of the stage's settings.

    Attributes:
        revive: Weight of the loss of dead features. dead_after: Steps without being on.
        warm_up: Steps in which a penalty grows to its weight.
    """

    revive: float
    dead_after: int
    warm_up: int


class Network(nn.Module):
    """A dictionary in training. A kind says what its gradients are, and what its file is.

    Args:
        planned: Which dictionary.
        schedule: The stage's settings.
        d: Length of the vectors that are read. o: Of those that are reconstructed.

    Attributes:
        W_enc: (f, d). b_enc: (f,). W_dec: (f, o), rows of norm 1. b_dec: (o,).
        last_on: (f,) the last step at which each feature was on.
        sums: (4,) since :meth:`taken`: squared errors, squared deviations, features on, and weight.
    """

    last_on: Tensor
    sums: Tensor
    start: Tensor

    def __init__(self, planned: Planned, schedule: Schedule, d: int, o: int):
        super().__init__()
        self.planned, self.schedule = planned, schedule
        f = planned.width
        generator = torch.Generator().manual_seed(planned.seed)
        directions_fo = torch.randn(f, o, generator=generator)
        directions_fo /= directions_fo.norm(dim=1, keepdim=True)
        if d == o:
            read_fd = directions_fo.clone()
        else:
            read_fd = torch.randn(f, d, generator=generator)
            read_fd /= read_fd.norm(dim=1, keepdim=True)
        decodes, encodes = (
            planned.how is not How.frozen_decoder,
            planned.how is not How.frozen_encoder,
        )
        self.W_enc = nn.Parameter(read_fd, requires_grad=encodes)
        self.b_enc = nn.Parameter(torch.zeros(f), requires_grad=encodes)
        self.W_dec = nn.Parameter(directions_fo, requires_grad=decodes)
        self.b_dec = nn.Parameter(torch.zeros(o))
        self.register_buffer("last_on", torch.zeros(f, dtype=torch.int64))
        self.register_buffer("sums", torch.zeros(4, dtype=torch.float64))
        self.register_buffer("start", directions_fo.clone(), persistent=False)

    # --- what a kind defines -------------------------------------------------------------------------

    def gradients(self, x_nd: Tensor, y_no: Tensor, weight_n: Tensor, step: int) -> float:
        """Set the gradients of all parameters that are trained; returns the loss.

        Losses are sums over d and means over rows. The kind calls :meth:`note` with what it saw.
        """
        raise NotImplementedError

    def architecture(self, scale: float) -> tuple[str, dict[str, Tensor], int | None]:
        """SAELens's name, tensors (f,) beside the encoder's bias, and k.

        Args:
            scale: A feature of the file is one of training divided by it: what thresholds must be, too.
        """
        raise NotImplementedError

    # --- one step ------------------------------------------------------------------------------------

    def note(self, error_no: Tensor, y_no: Tensor, weight_n: Tensor, on_n: Tensor) -> None:
        """Keep what the curves show; ``on_n``: features that are on in each row."""
        self.sums += torch.stack(
            [
                weight_n @ error_no.square().sum(1),
                weight_n @ y_no.square().sum(1),
                weight_n @ on_n.float(),
                weight_n.sum(),
            ]
        ).double()

    def taken(self) -> dict[str, float]:
        """Loss, explained variance and L0 since the last call."""
        error, deviation, on, weight = self.sums.tolist()
        self.sums.zero_()
        return {
            "loss": error / weight / self.b_dec.shape[0],
            "explained_variance": 1 - error / deviation,
            "l0": on / weight,
        }

    def dead(self, step: int) -> Tensor:
        """(f,) whether a feature was not on for too long before a step."""
        return step - self.last_on > self.schedule.dead_after

    @torch.no_grad()
    def before(self) -> None:
        """Keep gradients of the decoder's rows from changing their length."""
        if self.W_dec.grad is not None:
            along = (self.W_dec.grad * self.W_dec).sum(1, keepdim=True)
            self.W_dec.grad.addcmul_(along, self.W_dec, value=-1)

    @torch.no_grad()
    def after(self) -> None:
        """Rows of norm 1; those of a soft-frozen decoder near where they started."""
        if not self.W_dec.requires_grad:
            return
        self.W_dec /= self.W_dec.norm(dim=1, keepdim=True)
        if self.planned.how is How.soft_frozen_decoder:
            along_f1 = (self.W_dec * self.start).sum(1, keepdim=True)
            far = along_f1[:, 0] < LEAST_COSINE
            if far.any():
                across = self.W_dec[far] - along_f1[far] * self.start[far]
                across /= across.norm(dim=1, keepdim=True).clamp_min(1e-12)
                rest = (1 - LEAST_COSINE**2) ** 0.5
                self.W_dec[far] = LEAST_COSINE * self.start[far] + rest * across

    # --- the file ------------------------------------------------------------------------------------

    @torch.no_grad()
    def folded(self, scale: Scale) -> SparseAutoencoder:
        """The dictionary of the model's own activations: without centring and scaling."""
        architecture, more, k = self.architecture(scale.factor)
        b_dec = scale.mean + self.b_dec / scale.factor
        # SAELens takes b_dec from the input; training took the mean.
        moved = self.W_enc @ (b_dec - scale.mean)
        weights = {
            "W_enc": self.W_enc.T.contiguous(),
            "W_dec": self.W_dec.clone(),
            "b_dec": b_dec,
            **more,
        }
        if architecture == "gated":
            weights["b_gate"] = weights["b_gate"] + moved
            weights["b_mag"] = weights["b_mag"] + weights["r_mag"].exp() * moved
        else:
            weights["b_enc"] = self.b_enc / scale.factor + moved
        return SparseAutoencoder(architecture, weights, self.planned.hook, k=k)
