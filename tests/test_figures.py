from dtx.dataset.episodes import OUTCOMES
from dtx.figures import OUTCOME_COLOURS


def test_every_outcome_has_a_colour():
    assert set(OUTCOME_COLOURS) == set(OUTCOMES)
