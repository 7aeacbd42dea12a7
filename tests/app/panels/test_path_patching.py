import dataclasses

import numpy as np
import pandas as pd
import pytest

from dtx.analysis.core.patching_spec import Direction
from dtx.analysis.path_patching.compute import compute
from dtx.analysis.path_patching.spec import EdgeTokens
from dtx.config.compose import build_group
from tests.app.panels.batches import pair_set
from tests.app.panels.conftest import FLIP, KEY_LEFT

CELL = ["sender", "receiver", "input", "token"]


def edges(data) -> pd.DataFrame:
    return pd.DataFrame(data["edges"]).set_index(CELL)


@pytest.mark.parametrize("direction", [each.value for each in Direction])
@pytest.mark.parametrize("tokens", [each.value for each in EdgeTokens])
def test_the_strongest_edges_are_those_of_the_stage(tokens, direction, stream, moment, tmp_path):
    text = f"#1&m=planted&{KEY_LEFT}&e={FLIP}"
    parts = stream(text, "path_patching", tokens=tokens, direction=direction, shown=12)
    data = parts[-1][1]["data"]
    here = moment(text)
    stage = build_group("analysis/path_patching", ["pairs.dataset=null"])
    stage = dataclasses.replace(
        stage, tokens=EdgeTokens(tokens), direction=Direction(direction), edits=None
    )
    table = compute(stage, here.model, pair_set(here, tmp_path)).tables["edges"]
    of_edit = table[table["kind"] == "edit"].astype(dict.fromkeys(CELL, str))
    of_edit = of_edit[(of_edit["token"] == "all") == (tokens == "together")]
    found = edges(data)
    expected = of_edit.set_index(CELL)["rho"]
    np.testing.assert_allclose(found["rho"], expected[found.index], atol=1e-4)
    order = expected.abs().sort_values(ascending=False).to_numpy()[: len(found)]
    np.testing.assert_allclose(found["rho"].abs(), order, atol=1e-4)
    for kind in ("donor_clean", "donor_corrupt"):
        donors = table[table["kind"] == kind].astype(dict.fromkeys(CELL, str))
        shared = donors.set_index(CELL)["rho"]
        shared = shared[shared.index.isin(found.index)]
        assert len(shared)
        np.testing.assert_allclose(found.loc[shared.index, kind], shared, atol=1e-4)
    assert data["check"]["holds"] and data["measured"] == len(of_edit)
    assert [share for share, _ in parts] == sorted(share for share, _ in parts)


def test_the_planted_edges_come_out(stream):
    """The circuit: the instruction's head reads the embedding and is read by the deciding MLP."""
    parts = stream(f"#1&m=planted&{KEY_LEFT}&e={FLIP}", "path_patching", tokens="each")
    found = edges(parts[-1][1]["data"])
    strong = {cell for cell, rho in found["rho"].items() if abs(rho) > 0.2}
    assert strong == {
        ("embed", "L1H0", "v", "S1"),
        ("L1H0", "L1 MLP", "mlp", "S5"),
        ("L1 MLP", "logits", "logits", "S5"),
    }


def test_an_edit_that_moves_little_has_changes_but_no_rho(stream):
    parts = stream(f"#1&m=memory1&{KEY_LEFT}&e={FLIP}", "path_patching", shown=5)
    data = parts[-1][1]["data"]
    assert not data["measurable"] and abs(data["ld"]["original"] - data["ld"]["edited"]) < 0.5
    assert np.isnan(data["edges"]["rho"]).all() and (data["edges"]["change"] != 0).all()
    assert len(data["edges"]["sender"]) == 5 and data["check"]["holds"]


def test_it_ends_when_nobody_waits(stream):
    asked = []

    def after() -> bool:
        asked.append(1)
        return len(asked) > 6

    stream(f"#1&m=planted&{KEY_LEFT}&e={FLIP}", "path_patching", after, tokens="each")
    assert len(asked) < 20
