"""What dictionaries in training read and give back, and how they are written.

Training (:mod:`dtx.dictionary.training`) is the same for all: an autoencoder gives back what it reads, a
transcoder another activation of the same token.

Letters: d activation that is read, o activation that is given, f feature.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dtx.activations.stored import Activations
from dtx.dictionary.autoencoder import SparseAutoencoder
from dtx.dictionary.measure import Measured, measure
from dtx.dictionary.networks.network import Network
from dtx.dictionary.rows import Scale
from dtx.dictionary.sae_files import write


class Task:
    """Autoencoders.

    Args:
        stored: What is read.
    """

    def __init__(self, stored: Activations):
        self.stored = stored

    def given(self, hook: str) -> str:
        """What a dictionary that reads a hook gives."""
        return hook

    def written(
        self, network: Network, scales: Mapping[str, Scale], rows: np.ndarray, folder: Path
    ) -> tuple[Measured, dict[str, Any]]:
        """Write a dictionary, and measure it on held-out rows.

        Args:
            network: Trained.
            scales: Of all hooks.
            rows: Their numbers.
            folder: Of the dictionary.

        Returns:
            What all kinds are measured by, and further columns of the table.
        """
        sae = network.folded(scales[network.planned.hook])
        write(sae, folder)
        return measure(sae, self.stored, rows), {}


class Transcoding(Task):
    """Transcoders.

    Args:
        stored: What is read, and what is to be given.
        ends: The hook that is given, by the one that is read.
    """

    def __init__(self, stored: Activations, ends: Mapping[str, str]):
        super().__init__(stored)
        self.ends = ends

    def given(self, hook: str) -> str:
        """As :meth:`Task.given`."""
        return self.ends[hook]

    def written(
        self, network: Network, scales: Mapping[str, Scale], rows: np.ndarray, folder: Path
    ) -> tuple[Measured, dict[str, Any]]:
        """As :meth:`Task.written`."""
        hook = network.planned.hook
        sae = transcoder(network, scales[hook], scales[self.ends[hook]], self.ends[hook])
        write(sae, folder)
        return measure(sae, self.stored, rows, sae.hook_out), {"hook_out": sae.hook_out}


@torch.no_grad()
def transcoder(network: Network, read: Scale, given: Scale, hook_out: str) -> SparseAutoencoder:
    """The transcoder of the model's own activations: without centring and scaling.

    Args:
        network: Trained to give scaled activations of scaled ones.
        read: How those are scaled that it read. given: Those that it gave.
        hook_out: Where these are.
    """
    sae = network.folded(given)  # features and what is given are in the given activation's scale
    assert sae.architecture == "jumprelu"
    ratio = read.factor / given.factor
    weights = {
        "W_enc": network.W_enc.T * ratio,
        "b_enc": network.b_enc / given.factor - ratio * (network.W_enc @ read.mean),
        "W_dec": sae.weights["W_dec"],
        "b_dec": sae.weights["b_dec"],
        "threshold": sae.weights["threshold"],
    }
    return replace(
        sae,
        architecture="jumprelu_transcoder",
        weights=weights,
        hook_out=hook_out,
        apply_b_dec_to_input=False,
    )
