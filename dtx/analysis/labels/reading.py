"""What labels read: rows of the store with their facts, and the features of every source there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from dtx.analysis.core.result import Result
from dtx.analysis.labels.compute import compute
from dtx.analysis.labels.drawn import texts
from dtx.analysis.labels.sources import Source
from dtx.analysis.labels.spec import RANDOM, TRAINED, UNTRAINED, LabelsSpec
from dtx.dictionary.controls import random
from dtx.dictionary.sparse import drawn_rows, encoded, first_size

if TYPE_CHECKING:
    import pandas as pd

    from dtx.activations.stored import Activations
    from dtx.dictionary.dictionary_stage import DictionaryStage


def read(
    spec: LabelsSpec, dictionary: DictionaryStage, untrained: Sequence[DictionaryStage]
) -> Result:
    """Read what is needed of the artefacts, and label.

    Args:
        spec: The settings. dictionary: The dictionaries; those of the first hook, width and sparsity are
            labelled, of all seeds. untrained: The same of untrained networks.

    Raises:
        UserError: There are no facts, or none is left; no feature is live.
    """
    from dtx.activations.facts import FactTable

    stored, dataset = dictionary.activations.load(), dictionary.activations.dataset
    rows = drawn_rows(len(stored), spec.rows, spec.seed)
    facts = FactTable.of(stored, dataset, spec.facts, rows)
    dictionaries = dictionary.load()
    chosen = first_size(dictionaries)
    trained = [
        Source(
            TRAINED,
            line.name,
            int(line.seed),
            encoded(dictionaries[line.name], stored, line.hook, rows),
        )
        for line in chosen.itertuples()
    ]
    others = []
    for i, stage in enumerate(untrained):
        own, theirs = stage.load(), stage.activations.load()
        line = next(first_size(own).itertuples())
        others.append(
            Source(UNTRAINED, line.name, i, encoded(own[line.name], theirs, line.hook, rows))
        )
    shown = None
    if spec.labeller is not None:
        shown = texts(dataset.load(), stored.columns, rows)
    return compute(
        spec,
        facts,
        {name: column[rows] for name, column in stored.columns.items()},
        trained,
        others,
        [_random(stored, chosen.iloc[0], rows, spec.seed)],
        shown,
    )


def _random(stored: Activations, line: pd.Series, rows: np.ndarray, seed: int) -> Source:
    """Features of random directions around the mean, as many and as sparse as a dictionary's."""
    import torch

    x_nd = np.asarray(stored.array(line.hook)[rows], np.float32)
    mean_d = np.average(x_nd, axis=0, weights=stored.columns["count"][rows]).astype(np.float32)
    k = int(np.clip(round(line.l0), 1, line.width))
    made = random(x_nd.shape[1], int(line.width), k, seed, torch.from_numpy(mean_d), hook=line.hook)
    return Source(RANDOM, line["name"], seed, encoded(made, stored, line.hook, rows))
