import dataclasses

import numpy as np
import pytest

from dtx.analysis.activation_patching.compute import compute
from dtx.analysis.core.patching_spec import Direction, Node
from dtx.config.compose import build_group
from tests.app.panels.batches import pair_set
from tests.app.panels.conftest import FLIP, KEY_LEFT


@pytest.mark.parametrize("direction", [each.value for each in Direction])
@pytest.mark.parametrize(
    ("name", "node"), [("planted", "resid_pre"), ("planted", "z"), ("memory1", "mlp_out"),
                       ("leftpad", "k"), ("clone", "attn_out")],
)  # fmt: skip
def test_the_map_is_the_table_of_the_stage(name, node, direction, stream, moment, tmp_path):
    text = f"#1&m={name}&{KEY_LEFT}&e={FLIP}"
    parts = stream(text, "patching", node=node, direction=direction)
    data = parts[-1][1]["data"]
    here = moment(text)
    stage = build_group("analysis/activation_patching", ["pairs.dataset=null"])
    stage = dataclasses.replace(stage, nodes=(Node(node),), directions=(Direction(direction),))
    tables = compute(stage, here.model, pair_set(here, tmp_path)).tables
    patches = tables["patches"]
    n = len(data["tokens"])
    for kind, rho, change in (
        ("edit", data["rho"], data["change"]),
        *((donor["kind"], donor["rho"], None) for donor in data["donors"]),
    ):
        own = patches[patches["kind"] == kind]
        shape = (len(data["rows"]), n)
        assert own["name"].drop_duplicates().tolist() == data["rows"]
        np.testing.assert_allclose(rho, own["rho"].to_numpy().reshape(shape), atol=1e-4)
        if change is not None:
            np.testing.assert_allclose(change, own["change"].to_numpy().reshape(shape), atol=1e-4)
    assert [donor["kind"] for donor in data["donors"]] == ["donor_clean", "donor_corrupt"]
    own = tables["runs"].query("kind == 'edit'").iloc[0]
    assert data["ld"]["original"] == pytest.approx(own["ld_clean"], abs=1e-5)
    assert data["ld"]["edited"] == pytest.approx(own["ld_corrupt"], abs=1e-5)
    assert data["measurable"] == bool(own["measurable"]) and data["check"]["holds"]
    shares = [share for share, cell in parts if "data" in cell]
    assert shares[-1] == 1 and len(set(shares)) == len(data["rows"])


def test_rows_of_the_planted_model_come_one_by_one_and_say_where_the_instruction_is(stream):
    parts = stream(f"#1&m=planted&{KEY_LEFT}&e={FLIP}", "patching")
    first = parts[0][1]["data"]
    assert np.isfinite(first["rho"][0]).all() and np.isnan(first["rho"][1:]).all()
    data = parts[-1][1]["data"]
    assert np.isfinite(data["rho"]).all() and data["measurable"]
    tokens = data["tokens"]
    assert [t for t, changed in zip(tokens, data["changed"], strict=True) if changed] == ["S1"]
    assert data["rho"][0, tokens.index("S1")] == pytest.approx(1, abs=1e-4)
    others = [i for i, token in enumerate(tokens) if token != "S1"]
    np.testing.assert_allclose(data["rho"][0, others], 0, atol=1e-4)
    assert [donor["expected"] for donor in data["donors"]] == [1, 0]


def test_it_ends_when_nobody_waits_and_needs_an_edit(stream):
    text = f"#1&m=planted&{KEY_LEFT}"
    asked = []

    def after() -> bool:
        asked.append(1)
        return len(asked) > 4

    parts = stream(f"{text}&e={FLIP}", "patching", after, node="z")
    assert len(asked) < 12 and all("check" not in cell or share < 1 for share, cell in parts)
    assert stream(text, "patching")[-1][1]["needs"] == "pair"
