import numpy as np
import pytest

from dtx.analysis.core.channels import channel_name, occurring
from dtx.analysis.embeddings.compute import antipodal, clustered, compute, principal
from dtx.analysis.embeddings.spec import EmbeddingsSpec, Subset
from dtx.app.models import Loader
from dtx.dt.processing import processed
from tests.app.panels.awkward import NAMES


@pytest.mark.parametrize("name", NAMES)
def test_cosines_and_components_are_those_of_the_batch_functions(name, awkward, ask_awkward):
    (cell,) = ask_awkward(f"#1&m={name}", "embeddings")
    data = cell["data"]
    chosen = awkward.catalogue.choose(name)
    known = awkward.catalogue.training_data(chosen.entry)
    twin = processed(Loader().model(chosen))
    weight = twin.embed.W_S.double().numpy()
    rows = np.flatnonzero(np.abs(weight).max(1) > 0) if known is None else occurring(known.episodes)
    cosine, pairs, count = antipodal(weight[rows], rows, -0.5)
    order = clustered(cosine)
    np.testing.assert_allclose(data["cosine"], cosine[np.ix_(order, order)], atol=1e-5)
    assert data["channel"] == [channel_name(c // 49) for c in rows[order]]
    share, projection = principal(weight[rows])
    np.testing.assert_allclose(data["share"], share[:6], atol=1e-6)
    np.testing.assert_allclose(np.abs(data["projection"]), np.abs(projection[order, :6]), atol=1e-3)
    assert data["antipodal"]["pairs"] == count and data["antipodal"]["of"] == len(pairs)
    assert data["check"]["holds"] and data["random_95"] is None


def test_the_numbers_are_those_of_the_analysis(awkward, ask_awkward):
    (cell,) = ask_awkward("#1&m=memory1", "embeddings", channels="wall", order="cell")
    known = awkward.catalogue.training_data(awkward.catalogue.choose("memory1").entry)
    subset = Subset(channels=("wall",), cells=None)
    spec = EmbeddingsSpec(antipodal=-0.5, subsets={"wall": subset}, controls=20, seed=0)
    model = Loader().model(awkward.catalogue.choose("memory1"))
    result = compute(spec, model, known.episodes)
    components = result.tables["components"]
    assert len(cell["data"]["channel"]) == components.members.iloc[0]
    np.testing.assert_allclose(cell["data"]["share"], components.share[:6], atol=1e-6)
    maps = result.tables["maps"].query("component == 1").set_index(["column", "row"]).projection
    data = cell["data"]
    own = [maps[column, row] for column, row in zip(data["column"], data["row"], strict=True)]
    np.testing.assert_allclose(np.abs(data["projection"][:, 0]), np.abs(own), atol=1e-5)
    assert list(zip(data["column"], data["row"], strict=True)) == sorted(
        zip(data["column"], data["row"], strict=True)
    )
    assert 0 < data["random_95"][0] < data["random_95"][1] < 1


def test_what_cannot_be_shown_is_one_line(ask_awkward):
    (cell,) = ask_awkward("#1&m=conv", "embeddings")
    assert "convolutional" in cell["error"] and "\n" not in cell["error"]
    (cell,) = ask_awkward("#1&m=memory1", "embeddings", channels="open")
    assert "data" in cell or "occurs" in cell["error"] or "too few" in cell["error"]
