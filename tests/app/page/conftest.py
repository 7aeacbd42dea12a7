"""One browser and one server of small models for all tests of the page."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from dtx.analysis.attribution import Attribution
from dtx.analysis.core.inputs import Contrast, Inputs
from dtx.app.asked import Explorer
from dtx.app.models import Catalogue
from dtx.config.compose import Experiment, OnDrift, OnError, OnShortage, StoreConfig, TrackingConfig
from dtx.dictionary.sae_files import write
from dtx.dt.imported import Imported
from dtx.env.actions import Action
from dtx.exchange.published.checkpoint import digest_of
from dtx.running.runner import run
from dtx.stage import Stage
from dtx.store.store import Store
from tests import published
from tests.analysis.conftest import env, rollouts, tiny  # noqa: F401  # fixtures
from tests.app.page import browser
from tests.app.page.driven import Tab, server, tab
from tests.app.panels import awkward
from tests.app.served import served
from tests.dictionary.test_sae_files import dictionary
from tests.dt import test_parity


@pytest.fixture(scope="package")
def chromium() -> Iterator:
    """The browser; without one the tests are skipped, but in CI they fail."""
    if lacks := browser.lacks():
        (pytest.fail if "CI" in os.environ else pytest.skip)(lacks)
    with browser.started() as chromium:
        yield chromium


@pytest.fixture(scope="package")
def explorer(tmp_path_factory, env, rollouts, tiny) -> Explorer:  # noqa: F811
    """Small models of every kind, with training data and a sparse autoencoder; and a store with one, an
    analysis of it, and a published model (a random one where ``../shared/parity`` is not here)."""
    folder, given = tmp_path_factory.mktemp("page"), tmp_path_factory.mktemp("dictionaries")
    write(dictionary("topk", "blocks.1.hook_resid_post"), given / "stream")
    root = tmp_path_factory.mktemp("stored") / "store"
    windows = Inputs(env=env, dataset=rollouts, targets=(0.0, 0.9), count=8, seed=0)
    analysis = Attribution(
        windows=windows, dt=tiny, checkpoint=None, contrast=Contrast(pos=Action.left, neg=Action.right),
        random_directions=5, shown=4, seed=0,
    )  # fmt: skip
    run(experiment(analysis, root))
    file = test_parity.FOLDER / "MemoryGatedMLP.pt"
    if not file.is_file():
        file = published.write(folder / "published.pt", *published.transformer(layers=2))
    published.put_into_store(Imported(file=file, digest=digest_of(file)), root)
    # A model trained for three steps has nothing to find: the result counts as an instrument's does.
    result = next(root.glob("attribution-*")) / "result.json"
    told = json.loads(result.read_text())
    result.write_text(json.dumps({**told, "about": "instrument", "controls": []}))
    made = awkward.explorer(folder)
    catalogue = Catalogue(Store(root), others=made.catalogue.others)
    return Explorer(catalogue, dictionaries=(given,))


def experiment(target: Stage, root: Path) -> Experiment:
    """Runs a stage and what it needs into a store, without tracking."""
    return Experiment(
        name="page",
        targets={"it": target},
        store=StoreConfig(path=root, remote=None),
        tracking=TrackingConfig(enabled=False, uri=None, experiment="tests"),
        on_error=OnError.STOP,
        on_drift=OnDrift.WARN,
        resources=OnShortage.REFUSE,
        raw={"seed": 0},
        overrides=(),
    )


@pytest.fixture(scope="package")
def home(explorer: Explorer) -> Iterator[str]:
    """Address of the page of these models."""
    with served(server(explorer)) as port:
        yield f"http://127.0.0.1:{port}/"


@pytest.fixture(scope="package")
def kept(chromium, home: str) -> Iterator[Tab]:
    """One tab for the tests that follow links in it."""
    with tab(chromium, home) as one:
        one.open()
        yield one


@pytest.fixture
def page(kept: Tab) -> Iterator[Tab]:
    """That tab; at the end nothing may have gone wrong in it."""
    kept.errors.clear()
    kept.release()
    yield kept
    assert kept.errors == []


@pytest.fixture
def fresh(chromium, home: str) -> Iterator[Tab]:
    """A tab of its own; at the end nothing may have gone wrong in it."""
    with tab(chromium, home) as one:
        yield one
        assert one.errors == []
