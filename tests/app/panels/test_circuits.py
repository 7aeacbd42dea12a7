import numpy as np
import pytest
import torch

from dtx.analysis.circuits.static import contents, directions, scores_by_kind
from dtx.analysis.circuits.weights import composition, ov, singular, written
from dtx.analysis.core.channels import cell_names, occurring
from dtx.app.models import Loader
from dtx.dt.forward import blocks_of
from dtx.dt.processing import processed
from dtx.statistics import effective_rank
from tests.app.panels.awkward import NAMES


@pytest.fixture
def folded(awkward):
    return lambda name: processed(
        Loader().model(awkward.catalogue.choose(name)), dtype=torch.float64
    )


@pytest.mark.parametrize("name", NAMES)
def test_composition_and_singular_values_are_those_of_the_batch_functions(
    name, folded, ask_awkward
):
    twin = folded(name)
    (cell,) = ask_awkward(f"#1&m={name}", "circuits", show="composition", reads_as="K")
    data = cell["data"]
    table = composition(twin).query("kind == 'K'").set_index(["source", "target"]).score
    for (source, target), score in table.items():
        at = data["sources"].index(source), data["targets"].index(target)
        assert data["value"][at] == pytest.approx(score, abs=1e-5)
    assert data["check"]["holds"]
    np.testing.assert_allclose(data["written"], written(twin).flatten(), atol=1e-5)
    (cell,) = ask_awkward(f"#1&m={name}", "circuits", show="singular values")
    table = singular(twin)
    for circuit in ("QK", "OV"):
        rows = table[table.circuit == circuit]
        np.testing.assert_allclose(cell["data"][circuit].ravel(), rows.value, atol=1e-5)
        ranks = rows.groupby(["layer", "head"]).value.apply(effective_rank)
        np.testing.assert_allclose(cell["data"]["ranks"][circuit], ranks, rtol=1e-6)


@pytest.mark.parametrize("name", ["memory1", "clone", "plain", "planted"])
def test_outputs_on_the_view_are_those_of_the_batch_function(name, awkward, folded, ask_awkward):
    (cell,) = ask_awkward(
        f"#1&m={name}", "circuits", show="outputs on the view", layer=1, head=1, action="right"
    )
    data, twin = cell["data"], folded(name)
    known = awkward.catalogue.training_data(awkward.catalogue.choose(name).entry)
    used = twin.embed.W_S.abs().amax(1) > 0
    rows = np.flatnonzero(used.numpy()) if known is None else occurring(known.episodes)
    table = ov(twin, rows).query("layer == 1 and head == 1 and action == 'right'")
    expected = table.set_index("token").value
    names = cell_names()
    drawn = 0
    for row in rows:
        channel, _, place = names[row].rpartition(" ")
        x, y = (int(number) for number in place.strip("()").split(","))
        value = data["maps"][data["blocks"].index(channel), y, x]
        assert value == pytest.approx(expected[names[row]], abs=1e-5)
        drawn += 1
    assert np.isfinite(data["maps"]).sum() == drawn
    assert data["beside"]["action left"] == pytest.approx(expected["action left"], abs=1e-6)
    assert ("reward-to-go, per unit" in data["beside"]) == (name != "clone")


def test_scores_of_kinds_are_attention_scores_of_tokens_that_hold_nothing_else(
    awkward, folded, ask_awkward
):
    """Without LayerNorm a score is bilinear, so that the mean over contents is that over pairs of tokens."""
    twin = folded("plain")
    known = awkward.catalogue.training_data(awkward.catalogue.choose("plain").entry)
    content = contents(twin, known.observations, (known.returns.lowest, known.returns.highest))
    (cell,) = ask_awkward("#1&m=plain", "circuits")
    data = cell["data"]
    w = blocks_of(twin)[1].attn
    means = np.zeros((3, 3))
    for q, queries in enumerate(content.values()):
        for k, keys in enumerate(content.values()):
            query = torch.einsum("xd,de->xe", queries, w.W_Q[1]) + w.b_Q[1]
            key = torch.einsum("xd,de->xe", keys, w.W_K[1]) + w.b_K[1]
            means[q, k] = float((query @ key.T).mean()) / np.sqrt(twin.cfg.d_head)
    expected = means - means.mean(1, keepdims=True)
    at = data["heads"].index("L1H1")
    np.testing.assert_allclose(data["value"][at].reshape(3, 3), expected, atol=1e-5)
    np.testing.assert_allclose(scores_by_kind(twin, content)[1, 1], expected, atol=1e-12)
    (cell,) = ask_awkward("#1&m=plain", "circuits", show="outputs")
    logits = content["S"] @ w.W_V[1] @ w.W_O[1] @ twin.W_U
    spread = (logits - logits.mean(1, keepdim=True)).std(0, correction=0)
    np.testing.assert_allclose(cell["data"]["value"][at, 1], spread, atol=1e-5)


@pytest.mark.parametrize("circuit", ["OV", "QK"])
def test_singular_vectors_rebuild_the_matrix(circuit, folded):
    twin = folded("memory2")
    found = directions(twin, circuit, 1, 0)
    w = blocks_of(twin)[1].attn
    matrix = w.W_V[0] @ w.W_O[0] if circuit == "OV" else w.W_Q[0] @ w.W_K[0].T
    rebuilt = found.left_rd.T @ torch.diag(found.value_r) @ found.right_rd
    torch.testing.assert_close(rebuilt, matrix, rtol=0, atol=1e-12)
    values = singular(twin).query("circuit == @circuit and layer == 1 and head == 0").value
    np.testing.assert_allclose(found.value_r, values, atol=1e-10)


def test_distributions_are_of_the_weights_as_they_are(awkward, ask_awkward):
    (cell,) = ask_awkward("#1&m=memory1", "circuits", show="parameters")
    model = Loader().model(awkward.catalogue.choose("memory1"))
    for i, (name, parameter) in enumerate(model.named_parameters()):
        assert cell["data"]["name"][i] == name
        assert cell["data"]["numbers"][i] == parameter.numel()
        value = parameter.detach().double()
        assert cell["data"]["spread"][i] == pytest.approx(float(value.std(correction=0)), abs=1e-6)


def test_what_cannot_be_shown_is_one_line(ask_awkward):
    (cell,) = ask_awkward("#1&m=memory1", "circuits", show="singular vectors", layer=7)
    assert "no head L7H0" in cell["error"]
    for show in ("outputs on the view", "singular vectors"):
        (cell,) = ask_awkward("#1&m=conv", "circuits", show=show)
        assert "convolutional" in cell["error"]
    for show in ("queries and keys", "outputs", "composition", "singular values", "parameters"):
        (cell,) = ask_awkward("#1&m=conv", "circuits", show=show)
        assert cell["data"]["check"]["holds"]
