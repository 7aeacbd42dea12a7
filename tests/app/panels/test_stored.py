import json
import shutil

import numpy as np
import pandas as pd
import pytest

from dtx.analysis.attribution import Attribution
from dtx.analysis.congruence import Congruence
from dtx.analysis.core.inputs import Contrast, Inputs
from dtx.analysis.core.result import Result
from dtx.analysis.report import ReportPage
from dtx.app.asked import Explorer
from dtx.app.frames import decode, encode
from dtx.app.models import Catalogue, Loader
from dtx.app.scene import OpenPanel
from dtx.app.stored import COLUMNS, node_effects
from dtx.env.actions import Action
from dtx.exchange.lookup import readers, readers_of
from dtx.running.runner import run
from dtx.store.store import Store
from tests.analysis.conftest import env, rollouts, tiny  # noqa: F401  # fixtures


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Of a store that the tests of this module share."""
    return tmp_path_factory.mktemp("stored")


@pytest.fixture
def stages(env, rollouts, tiny):  # noqa: F811
    windows = Inputs(env=env, dataset=rollouts, targets=(0.0, 0.9), count=8, seed=0)
    contrast = Contrast(pos=Action.left, neg=Action.right)
    attribution = Attribution(
        windows=windows, dt=tiny, checkpoint=None, contrast=contrast, random_directions=5, shown=4, seed=0
    )  # fmt: skip
    congruence = Congruence(
        windows=windows, dt=tiny, checkpoint=None, actions=(Action.left, Action.right), untrained=1, seed=0
    )  # fmt: skip
    return attribution, congruence


@pytest.fixture
def explorer(root, stages, experiment_of, tmp_path):
    """Of a store with a model, two analyses of it and their report."""
    if not (root / "store").is_dir():
        attribution, congruence = stages
        report = ReportPage(analyses={"attribution": attribution, "congruence": congruence})
        run(experiment_of(report))
        shutil.copytree(tmp_path / "store", root / "store")
        _establish(next((root / "store").glob("attribution-*")) / "result.json")
    return Explorer(Catalogue(Store(root / "store")))


def _establish(path):
    """A model trained for three steps has nothing to find: leave the control out, as of an instrument."""
    recorded = json.loads(path.read_text())
    path.write_text(json.dumps({**recorded, "about": "instrument", "controls": []}))


@pytest.fixture
def ask(explorer):
    loader = Loader()

    def asked(model="", name="stored", **parameters):
        scene = {
            "version": 1,
            "models": [model] if model else [],
            "world": "key/left",
            "actions": "ff",
        }
        answer = explorer.ask(scene, [OpenPanel(name, parameters)], loader)
        return decode(encode(answer))["panels"][name][0]

    return asked


def test_it_lists_what_the_store_holds_with_verdicts_numbers_and_files(ask, explorer):
    data = ask()["data"]
    assert [found["name"] for found in data["analyses"]] == ["attribution", "congruence"]
    root = explorer.catalogue.store.root
    for found in data["analyses"]:
        result = Result.read(root / found["label"])
        assert found["finding"] == result.finding and found["why"] == list(result.reasons())
        assert (found["status"] == "not established") == (not result.established)
        numbers = {each["name"]: each["value"] for each in found["numbers"]}
        assert numbers and numbers.items() <= result.metrics.items()
        assert len(found["claims"]) == len(result.claims)
        for name in found["figures"]:
            assert (root / found["label"] / "figures" / name).is_file()
    (report,) = data["reports"]
    assert report["label"].startswith("report-") and "report.html" in report["figures"]
    assert data["others"] == 0


def test_effects_of_a_node_are_those_of_the_tables(ask, explorer):
    data = ask(node="L0H1")["data"]
    label = data["analyses"][0]["label"]
    ranking = pd.read_parquet(
        explorer.catalogue.store.root / label / "tables" / "ranking.parquet"
    ).query("component == 'L0H1'")
    effects = data["effects"]
    assert data["node"] == "L0H1" and effects["analysis"] == ["attribution"] * len(ranking)
    for name, column in (("value", "support"), ("low", "low"), ("high", "high"), ("n", "n")):
        np.testing.assert_allclose(effects[name], ranking[column], atol=1e-5)
    assert all("RTG" in words for words in effects["where"])
    assert ask(node="L0 H1")["data"]["node"] == "L0H1"  # an earlier spelling
    assert ask()["data"]["node"] in data["nodes"]
    assert data["analyses"][0]["status"] == "established"
    assert set(effects["analysis"]) == {"attribution"}  # the other has none of nodes
    assert "no analysis in the store" in ask(node="L4H4")["error"]


def test_a_new_analysis_is_seen_and_a_damaged_one_named(ask, explorer, root):
    store = explorer.catalogue.store
    before = [found["label"] for found in ask()["data"]["analyses"]]
    again = store.root / "congruence-00000000deadbeef"
    shutil.copytree(store.root / before[1], again)
    try:
        (again / "result.json").write_text("{")
        found = ask()["data"]["analyses"]
        assert len(found) == len(before) + 1
        broken = next(each for each in found if each["label"] == again.name)
        assert broken["status"] == "no result" and broken["claims"] == []
    finally:
        shutil.rmtree(again)
    assert [found["label"] for found in ask()["data"]["analyses"]] == before


def test_a_model_on_which_nothing_is_stored_says_so(ask, explorer, awkward):
    shown = awkward.ask({"version": 1, "models": ["memory1"]}, [OpenPanel("stored", {})], Loader())
    assert "in no store" in shown["panels"]["stored"][0]["error"]
    entry = explorer.catalogue.first().entry
    for step in entry.checkpoints:
        assert f"at step {step}" in ask(f"{entry.id}@{step}")["error"]


def test_a_neuron_is_shown_with_what_is_stored_of_it_and_why_that_may_be_nothing(ask, explorer):
    assert ask(name="neurons", neuron="L0N5")["data"]["stored"] is None
    root = explorer.catalogue.store.root
    made = root / "neurons-00000000deadbeef"
    shutil.copytree(next(root.glob("congruence-*")), made)
    try:
        done = json.loads((made / "done.json").read_text())
        (made / "done.json").write_text(json.dumps({**done, "stage": "neurons"}))
        row = {
            "model": "trained",
            "layer": 0,
            "neuron": 5,
            "rank": 3,
            "fact": "ahead",
            "peak": "wall",
        }
        table = pd.DataFrame([{**row, "selectivity": 0.25}])
        table.to_parquet(made / "tables" / "neurons.parquet")
        found = ask(name="neurons", neuron="L0N5")["data"]["stored"]
        assert (found["rank"], found["fact"], found["peak"]) == (3, "ahead", "wall")
        assert found["label"] == made.name and found["selectivity"] == 0.25
        assert found["why"] == list(Result.read(made).reasons())
        assert ask(name="neurons", neuron="L0N6")["data"]["stored"] is None
    finally:
        shutil.rmtree(made)


def test_readers_of_several_artefacts_name_what_they_read(explorer):
    store = explorer.catalogue.store
    label = explorer.catalogue.first().entry.label
    found = readers_of(store, label, ("analysis",))
    assert [(field, record["stage"]) for _, field, record in found] == [
        ("dt", "attribution"), ("dt", "congruence"),
    ]  # fmt: skip
    reading = readers(store, {made for made, _, _ in found}, ("analysis",))
    assert {source for _, _, source, _ in reading} == {made for made, _, _ in found}
    assert all(record["stage"] == "report" for _, _, _, record in reading)


def test_tables_of_every_analysis_give_rows_of_nodes():
    """As the analyses write them; the largest effect over tokens stands for a node."""
    tables = {
        "ablation": {"effects": pd.DataFrame({
            "method": ["zero"], "name": ["L0H1"], "target": ["0.9"], "change": [-1.5], "low": [-2.0],
            "high": [-1.0], "n": [4], "interval": ["t over 4 layouts"]})},
        "activation_patching": {"effects": pd.DataFrame({
            "edit": ["rtg_zero"] * 3, "kind": ["edit", "edit", "donor_clean"], "direction": ["noise"] * 3,
            "reward_to_go": [0.9] * 3, "layer": [1] * 3, "node": ["z"] * 3, "head": [2] * 3,
            "token": ["R1", "S2", "S2"], "rho": [0.1, -0.7, 0.9], "low": 0.0, "high": 1.0, "n": 4,
            "interval": "t over 4 layouts"})},
        "attention": {"heads": pd.DataFrame({
            "target": [0.0], "layer": [0], "head": [1], "total_variation": [0.5], "n": [4],
            "interval": ["all 4 layouts"]})},
        "attribution": {"ranking": pd.DataFrame({
            "target": [np.nan], "component": ["MLP1"], "kind": ["mlp"], "support": [2.0], "low": [1.0],
            "high": [3.0], "n": [4], "interval": ["t over 4 windows"]})},
        "neurons": {"neurons": pd.DataFrame({
            "model": ["trained", "untrained"], "layer": [1, 1], "neuron": [5, 5], "fact": ["ahead"] * 2,
            "selectivity": [0.4, 0.1]})},
        "congruence": {},
    }  # fmt: skip
    rows = node_effects([_Given(name, tables) for name, tables in tables.items()])
    assert list(rows.columns) == COLUMNS
    told = {(row.analysis, row.node): (row.where, row.value) for row in rows.itertuples()}
    assert told == {
        ("ablation", "L0H1"): ("ablated (zero), RTG 0.9", -1.5),
        ("activation_patching", "L1H2"): ("rtg zero, noise at S2, RTG 0.9", -0.7),
        ("attention", "L0H1"): ("attention as at the other reward-to-go, RTG 0", 0.5),
        ("attribution", "L1 MLP"): ("written straight to the logits", 2.0),
        ("neurons", "L1N5"): ("best single feature: ahead", 0.4),
    }


class _Given:
    """An analysis whose result is given."""

    def __init__(self, name, tables):
        self.name = name
        self.result = type("Established", (), {"established": True, "tables": tables})


def test_a_table_of_an_earlier_version_is_left_out():
    earlier = _Given("ablation", {"effects": pd.DataFrame({"node": ["L0H1"]})})
    assert not len(node_effects([earlier, _Given("attention", {})]))
