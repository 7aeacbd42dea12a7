"""What a page shows of a result: pictures with their sizes, numbers in few digits, today's names."""

from __future__ import annotations

import base64
import math

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from dtx.analysis.core.page import parts_of, pictures, shown
from dtx.analysis.core.result import Check, Claim, Result, Verdict


def test_pictures_and_videos_are_in_the_page_with_their_sizes(tmp_path):
    figures = tmp_path / "videos-0123456789abcdef" / "figures"
    figures.mkdir(parents=True)
    frames = [Image.new("P", (30, 20), colour) for colour in (0, 1)]
    frames[0].save(figures / "at_rtg_0.gif", save_all=True, append_images=frames[1:])
    Image.new("RGB", (7, 5)).save(figures / "curve.png")
    video, curve = pictures(figures.parent, "videos")
    assert (video.width, video.height, video.caption) == (30, 20, "at rtg 0")
    assert (curve.width, curve.height, curve.alt) == (7, 5, "videos: curve")
    kind, _, data = video.source.partition(",")
    assert kind == "data:image/gif;base64"
    assert base64.b64decode(data) == (figures / "at_rtg_0.gif").read_bytes()


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        (1 / 3, ("0.3333", "0.3333333333333333")),
        (0.5, ("0.5", None)),
        (24000, ("24,000", "24000")),
        (12549.0, ("12,549", "12549")),
        (np.int64(7), ("7", None)),
        (-0.0, ("0", None)),
        (math.nan, ("", None)),
        (None, ("", None)),
        (True, ("True", None)),
        ("MLP1N145 at ATTN0", ("L1N145 at L0 attention", "MLP1N145 at ATTN0")),
        ("<b>", ("<b>", None)),
    ],
)
def test_cells_are_short_and_keep_the_exact_value(value, cell):
    table = shown("t", pd.DataFrame({"x": pd.Series([value], dtype=object)}), 5, "../tables")
    assert table.rows == [[cell]]


def test_numbers_are_told_from_words_and_truths():
    frame = pd.DataFrame({"n": [1, 2], "x": [0.5, None], "on": [True, False], "word": ["a", "b"]})
    table = shown("t", frame, 1, "../tables")
    assert [number for _, number in table.columns] == [True, True, False, False]
    assert len(table.rows) == 1 and table.count == 2 and table.link == "../tables/t.parquet"


def test_sentences_have_todays_names(tmp_path):
    claim = Claim(
        id="a", text="L1 H3", criterion="ATTN0", evidence="MLP2", verdict=Verdict.CONFIRMED
    )
    check = Check(name="MLP1N4", error=0.0, tolerance=0.0)
    result = Result(metrics={}, checks=[check], claims=[claim], problems=["no MLP1N5"])
    parts = parts_of(result, tmp_path, "x")
    assert parts.result.claims[0].text == "L1H3" and parts.result.checks[0].name == "L1N4"
    assert parts.reasons == ["no L1N5"] and parts.result.is_claims
