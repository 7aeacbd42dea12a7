import numpy as np
import pytest

from dtx.dt.tokens import BEHAVIOUR_CLONE, DECISION_TRANSFORMER, TokenLayout, layout_of

LAYOUTS = (DECISION_TRANSFORMER, BEHAVIOUR_CLONE, TokenLayout("SAR"), TokenLayout("S"))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_a_window_ends_with_the_last_state(layout, steps):
    tokens = layout.tokens(steps)
    names = layout.names(tokens)
    everything = [f"{kind}{step}" for step in range(1, steps + 1) for kind in layout.kinds]
    assert names == everything[: everything.index(f"S{steps}") + 1]
    assert layout.last_state(steps) == tokens - 1
    assert layout.steps(tokens) == steps
    assert [layout.index(name) for name in names] == list(range(tokens))
    assert [layout.place(n[0], int(n[1:]) - 1) for n in names] == list(range(tokens))
    assert names[layout.states] == [f"S{step + 1}" for step in range(steps)]
    assert names[layout.first_state] == "S1"
    for kind in layout.kinds:
        chosen = np.flatnonzero(layout.is_kind(tokens, kind)).tolist()
        assert chosen == [i for i, name in enumerate(names) if name[0] == kind]
        assert chosen == list(range(tokens))[layout.places(kind)]
    assert layout.step_of(tokens).tolist() == [int(name[1:]) - 1 for name in names]
    assert [layout.kinds[slot] for slot in layout.slot_of(tokens)] == [name[0] for name in names]


def test_the_longest_window_that_a_position_table_takes():
    assert [DECISION_TRANSFORMER.steps(n) for n in (1, 2, 4, 5, 7, 8)] == [0, 1, 1, 2, 2, 3]
    assert [BEHAVIOUR_CLONE.steps(n) for n in (1, 2, 3, 4)] == [1, 1, 2, 2]


def test_padding_comes_before_the_first_step():
    tokens = DECISION_TRANSFORMER.padded(3, 1)
    assert tokens.names == ("pad", "pad", "pad", "R1", "S1", "A1", "R2", "S2")
    assert tokens.kinds.tolist() == ["pad", "pad", "pad", "R", "S", "A", "R", "S"]
    assert tokens.index("S2") == 7 and tokens.of("S", "A").tolist() == [False] * 4 + [True] * 2 + [
        False,
        True,
    ]
    assert tokens.real.sum() == 5


def test_a_clone_has_no_reward_to_go():
    assert layout_of(True).has_reward_to_go and not layout_of(False).has_reward_to_go
    assert not BEHAVIOUR_CLONE.is_kind(4, "R").any()
    with pytest.raises(ValueError):
        BEHAVIOUR_CLONE.slot("R")
