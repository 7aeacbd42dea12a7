"""Rows that training reads: each counts as often as it occurs, in an order that follows from the step."""

from __future__ import annotations

import dataclasses
import shutil

import numpy as np
import pytest
import torch

from dtx.activations.stored import Activations, Part
from dtx.dictionary.rows import Passes, Scale, Weights
from dtx.dictionary.spec import Split
from dtx.errors import UserError
from dtx.store.store import Store, used
from tests.dictionary import training as toy

HOOK = "blocks.1.hook_resid_post"


@pytest.fixture(scope="module")
def stored(tmp_path_factory) -> Activations:
    """A tiny model's activations."""
    store = Store(tmp_path_factory.mktemp("activations") / "store")
    with used(store):
        toy.make(store, what := toy.stage().activations)
        return what.load()


def test_each_row_counts_in_a_pass_as_often_as_it_occurs(stored):
    weights = Weights.of(stored, Split.prefix)
    passes = Passes(stored, (HOOK,), weights, 7, 3)
    seen, times = np.zeros(len(stored)), np.zeros(len(stored), int)
    for step in range(passes.batches):
        batch = passes.batch(step)
        np.add.at(seen, batch.rows, batch.weight.numpy())
        np.add.at(times, batch.rows, 1)
        assert np.array_equal(batch.x[HOOK], stored.array(HOOK)[batch.rows].astype(np.float32))
    left = int(weights.times.sum()) - passes.batches * 7
    assert 0 <= left < 7 and np.abs(times - weights.times).sum() == left
    count = np.asarray(stored.columns["count"], float)
    whole = weights.times == times
    train = stored.rows("prefix", Part.TRAIN)
    ratio = seen[whole & (times > 0)] / count[whole & (times > 0)]
    assert np.allclose(ratio, ratio[0], rtol=1e-5) and set(np.flatnonzero(times)) <= set(train)
    assert count.max() > 8 * count[train].mean() and weights.times.max() > 1
    assert weights.weight.max() <= 8 * 1.2


def test_batches_are_a_function_of_seed_and_step(stored, monkeypatch):
    from dtx.activations import stored as files
    from dtx.dictionary import rows

    for module in (files, rows):
        monkeypatch.setattr(module, "READ_TOGETHER", 32)
        monkeypatch.setattr(module, "POOL", 3)
    weights = Weights.of(stored, Split.episode)

    def passes(seed=5):
        return Passes(stored, (HOOK,), weights, 50, seed)

    one = passes()
    steps = range(2 * one.batches + 3)
    wanted = [one.batch(step) for step in steps]
    other = passes()
    for step in reversed(steps):
        found = other.batch(step)
        assert np.array_equal(found.rows, wanted[step].rows)
        assert torch.equal(found.x[HOOK], wanted[step].x[HOOK])
    assert not np.array_equal(wanted[0].rows, wanted[one.batches].rows)
    assert not np.array_equal(wanted[0].rows, passes(6).batch(0).rows)
    assert len(set(wanted[0].rows // 32)) > 2  # rows of several blocks are shuffled together


def test_activations_are_centred_and_scaled(stored):
    weights = Weights.of(stored, Split.prefix)
    scale = Scale.of(stored, HOOK, weights, True)
    rows = stored.rows("prefix", Part.TRAIN)
    x = torch.from_numpy(np.asarray(stored.array(HOOK)[rows], np.float64))
    count = torch.from_numpy(stored.columns["count"][rows].astype(np.float64))
    mean = (count @ x) / count.sum()
    torch.testing.assert_close(scale.mean.double(), mean, rtol=1e-5, atol=1e-5)
    scaled = (x - mean) * scale.factor
    assert (count @ scaled.square().sum(1) / count.sum()).item() == pytest.approx(16, rel=1e-4)
    assert Scale.of(stored, HOOK, weights, False).factor == 1.0


def test_a_number_that_is_none_is_told_with_its_row(stored, tmp_path):
    """As a damaged disk would leave it, were it not for the checksums."""
    shutil.copytree(stored.folder, damaged := tmp_path / "windows-damaged")
    row = int(stored.rows("prefix", Part.TRAIN)[5])
    path = damaged / f"{HOOK}.f16"
    path.chmod(0o644)
    values = np.memmap(path, np.float16, "r+", shape=(len(stored), 16))
    values[row, 3] = np.nan
    values.flush()
    found = Activations(damaged)
    told = rf"windows-damaged: row {row} of {HOOK} holds a number that is not finite"
    with pytest.raises(UserError, match=told):
        Scale.of(found, HOOK, Weights.of(found, Split.prefix), True)


def test_vectors_that_are_all_equal_are_refused(stored):
    weights = Weights.of(stored, Split.prefix)
    times = np.zeros_like(weights.times)
    times[np.flatnonzero(weights.times)[0]] = 1
    with pytest.raises(UserError, match=r"all stored vectors of .* are equal"):
        Scale.of(stored, HOOK, dataclasses.replace(weights, times=times), True)
