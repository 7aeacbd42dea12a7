"""What the page reads of the store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dtx.analysis.core.result import Result
from dtx.analysis.feature_pages.compute import Shown, compute
from dtx.analysis.feature_pages.spec import FeaturePagesSpec
from dtx.dictionary.sparse import drawn_rows, encoded, first_size
from dtx.dt.load import load_at

if TYPE_CHECKING:
    from dtx.analysis.core.analysis import Analysis
    from dtx.dictionary.dictionary_stage import DictionaryStage


def read(
    spec: FeaturePagesSpec,
    dictionary: DictionaryStage,
    labels: Analysis | None,
    features: Analysis | None,
) -> Result:
    """Read what is needed of the artefacts, and describe the features.

    Args:
        spec: The settings. dictionary: Its first trained dictionary is shown.
        labels: The labels of the same dictionaries. features: Facts and their best features.

    Raises:
        UserError: No feature is on anywhere.
    """
    activations = dictionary.activations
    stored = activations.load()
    rows = drawn_rows(len(stored), spec.rows, spec.seed)
    dictionaries = dictionary.load()
    chosen = first_size(dictionaries)
    sources = [
        Shown(line.name, int(line.seed), encoded(dictionaries[line.name], stored, line.hook, rows))
        for line in chosen.itertuples()
    ]
    fresh = dictionary.of_untrained(spec.untrained)
    other, theirs = fresh.load(), fresh.activations.load()
    line = next(first_size(other).itertuples())
    untrained = Shown(line.name, spec.untrained, encoded(other[line.name], theirs, line.hook, rows))
    return compute(
        spec,
        dictionaries[sources[0].name],
        sources[0],
        sources[1:],
        untrained,
        {name: np.asarray(column)[rows] for name, column in stored.columns.items()},
        activations.dataset,
        load_at(activations.dt, activations.checkpoint),
        None if labels is None else labels.result().tables["features"],
        None if features is None else features.result().tables["facts"],
    )
