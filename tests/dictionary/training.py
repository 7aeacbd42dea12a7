"""Dictionaries in training, for tests: tiny stages, and the same gradients by autograd."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch

from dtx.activations.windows import WindowActivations
from dtx.config.compose import build_group
from dtx.dictionary.dictionary_stage import DictionaryStage
from dtx.dictionary.networks.network import Network, Planned, Schedule
from dtx.dictionary.spec import How
from dtx.running.provenance import provenance
from dtx.stage import Stage
from dtx.store.store import Store
from tests.activations.toy import stage as tiny_activations

SMALL = ["width=[24]", "steps=40", "batch_size=64", "checkpoint_every=10", "warm_up=5"]
COUNTED = ("topk", "batch_topk", "matryoshka")


def stage(
    *overrides: str,
    kind: str = "topk",
    activations: WindowActivations | None = None,
    **changes: Any,
) -> DictionaryStage:
    """Dictionaries of a tiny model's activations; overrides without the group's name."""
    small = [*SMALL, "k=[4]"] if kind in COUNTED else SMALL
    words = [f"dictionary.{word}" for word in (*small, *overrides)]
    built = build_group(f"dictionary/{kind}", words)
    assert isinstance(built, DictionaryStage)
    first = activations or tiny_activations(other_windows=None)
    return dataclasses.replace(built, activations=first, **changes)


def make(store: Store, *stages: Stage) -> None:
    """Run stages that are not there yet, inputs first."""
    for one in stages:
        make(store, *one.inputs().values())
        with store.work(one) as work:
            if work is not None:
                one.run(work)
                store.commit(one, work, provenance(one))


def files(folder: Path) -> dict[str, bytes]:
    """What must be the same after a kill: all but speeds and the record of the commit."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and path.name not in ("timing.jsonl", "done.json")
        and not path.name.startswith(("resume", "progress"))
    }


def planned(sparsity: float = 3, how: How = How.trained, width: int = 32, seed: int = 0) -> Planned:
    return Planned("one", "hook", width, sparsity, seed, how)


def network(kind: type[Network], d: int = 12, revive: float = 0.5, **changes: Any) -> Network:
    """A dictionary in training, away from where it starts."""
    made = kind(planned(**changes), Schedule(revive, 3, 5), d, d)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
            if name == "W_dec":
                parameter /= parameter.norm(dim=1, keepdim=True)
    return made


def batch(n: int = 20, d: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows and weights."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(n, d, generator=generator), torch.rand(n, generator=generator) + 0.5


def gradients(network: Network) -> dict[str, torch.Tensor]:
    return {n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None}
