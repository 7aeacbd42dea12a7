"""Planted facts: behind the block, at state tokens, lies the sum of the directions of the true facts."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import pytest

from dtx.activations.facts import FactTable
from dtx.activations.spec import Numbers, TokenKind
from dtx.config.compose import build_group
from dtx.dt.planted_facts import PlantedFacts
from dtx.dt.planted_truth import APART, HOOK, NEGATIVE, NESTED, REDUNDANT, SILENT, PlantedTruth
from dtx.errors import UserError
from dtx.store.store import Store, used
from tests.activations.toy import fresh, stage
from tests.activations.worlds import demonstrations, run


def planted(task: str = "memory", **changes) -> PlantedFacts:
    built = build_group("dt/planted_facts", ["dt.seed=3"])
    values = {"number": 12, "dimensions": 10, "context": 6, "views": 96, "least": 0.01}
    return dataclasses.replace(built, dataset=demonstrations(task), **{**values, **changes})


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Iterator[Store]:
    with used(Store(tmp_path_factory.mktemp("planted"))) as one:
        yield one


def at_states(store: Store, dt: PlantedFacts) -> tuple[np.ndarray, FactTable, PlantedTruth]:
    """Activations (r, d) at state tokens, the facts there, and the truth."""
    changes = {"hooks": (HOOK,), "tokens": (TokenKind.S,), "numbers": Numbers.float32}
    what = dataclasses.replace(stage(), dt=dt, dataset=dt.dataset, other_windows=2, **changes)
    run(store, what)
    stored = what.load()
    return stored.array(HOOK), FactTable.of(stored, dt.dataset, least=0), dt.planted_facts()


@pytest.mark.parametrize(
    "task, awkward", [("memory", True), ("memory", False), ("door_key", False)]
)
def test_activations_are_the_sum_of_the_true_facts_directions(store, task, awkward):
    more = {"views": 400, "apart": 0.4} if task == "door_key" else {"apart": 0.4}
    dt = planted(task, awkward=awkward, **more)
    x, table, truth = at_states(store, dt)
    known = {name: name for name in table.names}
    known |= {other: name for name, others in table.also.items() for other in others}
    true = np.stack(
        [table.values[:, table.names.index(known[name])] for name in truth.names], 1
    ).astype(float)
    wanted = (true * truth.size) @ truth.directions
    np.testing.assert_allclose(x, wanted, atol=2e-4)
    assert np.abs(wanted).max() > 0.3
    assert np.linalg.matrix_rank(truth.directions) == dt.dimensions < len(truth.names)
    np.testing.assert_allclose(np.linalg.norm(truth.directions, axis=1), 1)
    apart = true[:, [k == APART for k in truth.kind]]
    assert apart.shape[1] == dt.number
    if not awkward:
        assert set(truth.kind) == {APART}
        return
    assert truth.kind[dt.number :] == [NEGATIVE, SILENT, REDUNDANT, NESTED]
    assert truth.size[dt.number :].tolist() == [-1, 0, 1, 1]
    negative, silent, redundant, nested = true[:, dt.number :].T
    assert silent.any() and negative.any()
    assert (redundant == apart[:, 0]).all() and truth.names[dt.number + 2] == truth.names[0]
    inside = [(nested <= a).all() or (a <= nested).all() for a in apart.T]
    assert any(inside)


def test_the_declared_sizes_are_the_networks(store):
    dt = planted(apart=0.4)
    run(store, dt)
    model, sizes = dt.load(), dt.sizes
    assert (model.cfg.n_layers, model.cfg.d_model, model.cfg.d_mlp) == (
        1,
        sizes.d_model,
        sizes.d_mlp,
    )
    assert model.cfg.n_ctx == sizes.n_ctx == sizes.tokens
    parameters = sum(p.numel() for p in model.parameters())
    assert sizes.parameters / 2 < parameters < 2 * sizes.parameters
    assert "12 facts in 10 dimensions" in dt.summary()


def test_the_seed_chooses_facts_and_directions(store):
    one, two = planted(apart=0.4), planted(apart=0.4, seed=4)
    run(store, one, two)
    assert one.planted_facts().names != two.planted_facts().names


def test_bad_input_is_told(store, tmp_path):
    for changes, wanted in [
        ({"views": 20}, r"dt\.views: the demonstrations have \d+ distinct views, more than 20"),
        (
            {"number": 500, "apart": 0.4},
            r"dt\.number: of \d+ facts .* \d+ stand apart, fewer than 500",
        ),
    ]:
        with pytest.raises(UserError, match=wanted):
            run(store, planted(**changes))
    problems = dict(planted(dimensions=12, least=0.4).check())
    assert problems.keys() == {"dimensions", "least"}
    without = dataclasses.replace(planted(), dataset=demonstrations("door_key", facts=False))
    assert [name for name, _ in without.check()] == ["dataset"]
    with pytest.raises(UserError, match="no facts were planted in it; dt=planted_facts has some"):
        fresh().planted_facts()
    (tmp_path / "planted.json").write_text("{")
    with pytest.raises(UserError, match=r"planted\.json: no readable planted facts"):
        PlantedTruth.read(tmp_path)
