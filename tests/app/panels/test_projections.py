import numpy as np
import pytest
import torch

from dtx.analysis.core.channels import cell_names
from dtx.analysis.core.windows import join
from dtx.app.address import parse
from dtx.app.directions import direction_of
from dtx.app.models import Loader
from dtx.app.moment import folded
from dtx.dt.processing import processed
from tests.app.panels.awkward import NAMES
from tests.app.panels.conftest import FLIP, KEY_LEFT

EVERY = (
    "left", "right-forward", "key (2, 6)", "action forward", "time 2", "L1N5", "L0N3 out", "PC2",
    "reward-to-go",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_the_stream_is_projected_at_every_token_and_point(name, awkward, ask_awkward):
    address = f"#1&m={name}&{KEY_LEFT}&e={FLIP}"
    (cell,) = ask_awkward(address, "projections")
    data, moment = cell["data"], _moment(awkward, address)
    direction = processed(moment.model).W_U.double()
    vector = direction[:, 0] - direction[:, 1]
    context = join([side.context for side in moment.sides.values()])
    _, cache = moment.model.run_with_cache(context)
    hooks = ["blocks.0.hook_resid_pre"]
    hooks += [
        f"blocks.{i}.hook_resid_{part}"
        for i in range(moment.cfg.n_layers)
        for part in ("mid", "post")
    ]
    for row, side in enumerate(("original", "edited")):
        expected = torch.stack([cache[hook][row].double() for hook in hooks]) @ vector
        np.testing.assert_allclose(data[side]["value"], expected, atol=1e-4)
    assert data["direction"] == "logit left - right" and len(data["points"]) == len(hooks)
    assert data["check"]["holds"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("direction", EVERY)
def test_every_direction_is_there(name, direction, ask_awkward):
    cells = ask_awkward(f"#1&m={name}&{KEY_LEFT}", "projections", direction=direction)
    if name == "clone" and direction == "reward-to-go":
        assert "reads no reward-to-go" in cells[0]["error"]
        return
    data = cells[0]["data"]
    assert np.isfinite(data["original"]["value"]).all()
    assert data["length"] > 0 or (name, direction) == ("planted", "L0N3 out")
    reads = direction in ("left", "right-forward", "L1N5")
    assert ("check" in data) == reads and (not reads or data["check"]["holds"])


def test_directions_are_folded_weights(awkward):
    moment = _moment(awkward, f"#1&m=memory1&{KEY_LEFT}")
    twin = folded(moment.model).folded
    column = cell_names().index("key (2,6)")
    found = {name: direction_of(moment, twin, name).vector_d for name in EVERY}
    assert torch.equal(found["key (2, 6)"], twin.embed.W_S[column])
    assert torch.equal(found["L1N5"], twin.W_in[1][:, 5])
    assert torch.equal(found["L0N3 out"], twin.W_out[0][3])
    assert torch.equal(found["action forward"], twin.embed.W_A[2])
    assert torch.equal(found["time 2"], twin.embed.W_time[1])
    assert float(found["PC2"].norm()) == pytest.approx(1)


def test_cosines_are_between_minus_one_and_one(ask_awkward):
    (cell,) = ask_awkward(f"#1&m=memory2&{KEY_LEFT}", "projections", measure="cosine")
    assert np.abs(cell["data"]["original"]["value"]).max() <= 1


def test_what_is_no_direction_is_one_line(ask_awkward):
    for name, word in (
        ("lefd", "did you mean 'left'"),
        ("L7N1", "no L7N1"),
        ("PC99", "components"),
        ("time 999", "timesteps 1..300"),
        ("left-right-forward", "there is no"),
        ("key (9,9)", "there is no"),
    ):
        (cell,) = ask_awkward("#1&m=memory1", "projections", direction=name)
        assert word in cell["error"] and "\n" not in cell["error"]
    (cell,) = ask_awkward("#1&m=conv", "projections", direction="key (2,6)")
    assert "convolutional" in cell["error"]
    (cell,) = ask_awkward("#1&m=conv", "projections")
    assert cell["data"]["check"]["holds"]


def _moment(awkward, address):
    asked = awkward.understood(parse(address)[0].json())
    return next(awkward.moments(asked, Loader()))
