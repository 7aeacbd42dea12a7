"""Ids of Minari datasets."""

import pytest

from dtx.dataset.minari.ids import wrong_id

pytest.importorskip("minari")


@pytest.mark.parametrize(
    "name",
    [
        "a/b-v0",
        "ab/c-v0",
        "a/b/c-v0",
        "b-v0",
        "-/-v0",
        "--/x-v10",
        "é/b-v0",
        "ab/c",
        "/b-v0",
        "a//b-v0",
    ],
)
def test_an_id_is_right_if_minari_takes_it(name):
    from minari.dataset.minari_dataset import parse_dataset_id

    try:
        taken = parse_dataset_id(name)[2] is not None
    except (ValueError, TypeError):
        taken = False
    assert (wrong_id(name) is None) == (taken and "//" not in name)
