"""Names of a model's parts: one spelling is written, earlier ones are read."""

import pytest

from dtx.dt.names import ATTENTION, HEAD, MLP, NEURON, Part, part_of, renamed


@pytest.mark.parametrize(
    ("part", "name", "earlier"),
    [
        (Part(1, HEAD, 3), "L1H3", ["L1 H3"]),
        (Part(0, ATTENTION), "L0 attention", ["ATTN0", "L0 attn", "attention 0"]),
        (Part(2, MLP), "L2 MLP", ["MLP2"]),
        (Part(1, NEURON, 145), "L1N145", ["MLP1N145", "MLP1 neuron 145"]),
    ],
)
def test_a_part_is_written_one_way_and_read_in_every_earlier_one(part, name, earlier):
    assert part.name == name
    for spelling in (name, *earlier):
        assert part_of(spelling) == part
        assert renamed(f"clamp at {spelling}, most") == f"clamp at {name}, most"


@pytest.mark.parametrize(
    "text",
    [
        "embed",
        "logits",
        "all biases",
        "L0 resid_pre",
        "before L1, last S",
        "attention 0.44",
        "XL1H3",
    ],
)
def test_what_is_no_name_stays(text):
    assert part_of(text) is None and renamed(text) == text
