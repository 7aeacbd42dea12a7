"""A stored pair as a scene: played, it is the stored runs, step by step."""

import numpy as np
import pytest

from dtx.app.models import Catalogue
from dtx.app.places import place
from dtx.app.play import play
from dtx.app.stored_pair import scene_of
from dtx.config.compose import compose, experiment
from dtx.errors import UserError
from dtx.pairs.pair_set import PairSet
from dtx.running.runner import run
from dtx.store.store import Store, used


@pytest.fixture(scope="module", params=["memory", "door_key"])
def stored(request, tmp_path_factory):
    """A catalogue of a store with the declared pairs of a task, sampled worlds among them."""
    folder = tmp_path_factory.mktemp(request.param) / "store"
    overrides = ["target=pairs", "pairs.dataset=null", "tracking.enabled=false"]
    overrides += [f"store.path={folder}"]
    if request.param == "door_key":
        overrides += ["env=door_key", "pairs=door_key", "pairs.source.variants=2"]
    store = Store(folder)
    with used(store):
        run(experiment(compose(overrides), overrides))
    (label,) = [path.name for path in folder.iterdir() if path.name.startswith("declared-")]
    return Catalogue(store), label, PairSet.read(folder / label)


def test_a_stored_edit_is_played_as_it_was(stored):
    catalogue, label, pairs = stored
    rows = pairs.table[pairs.table["kind"] == "edit"]
    assert len(rows) > 4
    for row in rows.iloc[:: max(1, len(rows) // 12)].itertuples():
        scene = scene_of(f"{label}#{row.pair}", catalogue)
        played = play(scene, place(scene.env), 1.0)
        assert played.impossible == "" and played.messages == ()
        assert played.cursor == row.states
        for side, number in ((played.original, row.clean), (played.edited, row.corrupt)):
            views = pairs.runs["observation"][number][: row.states]
            np.testing.assert_array_equal(side.views[: row.states], views)
            rewards = pairs.runs["reward_to_go"][number][: row.states]
            np.testing.assert_allclose(side.reward_to_go[: row.states], rewards, atol=1e-6)
        assert " ".join(played.changed) == row.changed


def test_the_beginning_of_a_label_or_key_names_it(stored):
    catalogue, label, pairs = stored
    number = int(pairs.table[pairs.table["kind"] == "edit"]["pair"].iloc[0])
    key = label.rpartition("-")[2]
    known = scene_of(f"{label}#{number}", catalogue)
    assert scene_of(f"declared-{key[:4]}#{number}", catalogue) == known
    assert scene_of(f"{key[:6]}#{number}", catalogue) == known


@pytest.mark.parametrize("name", ["", "#", "declared", "declared#", "declared#x", "#1", "a#1#2"])
def test_what_names_no_pair_is_refused(stored, name):
    with pytest.raises(UserError, match="is no pair; declared-1a2b#17 is one"):
        scene_of(name, stored[0])


def test_a_pair_that_is_not_there_or_a_control_is_refused(stored):
    catalogue, label, pairs = stored
    with pytest.raises(UserError, match=f"{label} has the pairs 0 to {len(pairs.table) - 1}"):
        scene_of(f"{label}#99999", catalogue)
    with pytest.raises(UserError, match="no pairs of the store"):
        scene_of("declared-ffffffff#1", catalogue)
    for kind, why in (("null", "is no edit but null"), ("donor_clean", "is a control of #")):
        rows = pairs.table[pairs.table["kind"] == kind]
        assert len(rows)
        with pytest.raises(UserError, match=why):
            scene_of(f"{label}#{rows['pair'].iloc[0]}", catalogue)
