"""What the scores of features cannot be asked for, and which rows they are of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dtx.activations.spec import TokenKind
from dtx.analysis.features.data import drawn_rows
from dtx.config.build import ConfigError
from dtx.config.compose import compose, experiment
from dtx.errors import UserError
from tests.analysis.test_features import SPEC, planted


@pytest.mark.parametrize(
    ("overrides", "place", "words"),
    [
        (["analysis.features.hook=blocks.2.hook_resid_post"], "hook", "did you mean 'blocks.1"),
        (["analysis.features.width=512"], "width", "no dictionary of 512 is trained"),
        (["analysis.features.sparsity=17"], "sparsity", "no dictionary of 17"),
        (["dictionary.how=[frozen_encoder]"], "dictionary.how", "add trained"),
        (["activations.tokens=[R, A]"], "tokens", "no activations of S tokens are stored"),
        (["analysis.features.shuffled=20"], "shuffled", "at least 100"),
        (["analysis.features.untrained=1"], "untrained", "at least 2"),
    ],
)
def test_what_cannot_be_scored_is_refused_before_anything_runs(overrides, place, words):
    with pytest.raises(ConfigError) as caught:
        given = ["analysis=[features]", *overrides]
        experiment(compose(given), given)
    (line,) = caught.value.errors
    assert line[0] == f"analysis.features.{place}" and words in line[1] and "\n" not in line[1]


def test_rows_are_those_of_the_kinds_of_tokens_and_as_many_as_are_asked_for():
    stored: Any = planted(600)["model"].stored
    stored.columns["kind"] = np.arange(600) % 3
    stored.folder = Path("windows-0")
    at_states = replace(SPEC, tokens=(TokenKind.S,))
    assert drawn_rows(at_states, stored).tolist() == list(range(1, 600, 3))
    few = drawn_rows(replace(at_states, rows=50), stored)
    assert len(few) == 50 == len(set(few)) and set(few % 3) == {1}
    stored.columns["kind"] = np.zeros(600)
    with pytest.raises(UserError, match="windows-0: no activations of tokens S"):
        drawn_rows(at_states, stored)
