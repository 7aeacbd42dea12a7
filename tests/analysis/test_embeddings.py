import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch

from dtx.analysis.embeddings import Embeddings
from dtx.analysis.embeddings import compute as computing
from dtx.analysis.embeddings.compute import TOLERANCE, antipodal, clustered, members, principal
from dtx.analysis.embeddings.spec import EmbeddingsSpec, Subset
from dtx.config.ranges import problems
from dtx.report import read_metrics
from dtx.running.runner import run
from tests.dt.test_model import build

KEY, BALL = 5, 6
OBJECTS = Subset(channels=("key", "ball"), cells=None)


@pytest.fixture
def stage(rollouts, tiny) -> Embeddings:
    return Embeddings(
        dataset=rollouts,
        dt=tiny,
        checkpoint=None,
        antipodal=-0.5,
        subsets={"objects": OBJECTS},
        controls=20,
        seed=0,
    )


def channel(kind: int, column: int, row: int) -> int:
    return kind * 49 + column * 7 + row


def test_planted_opposites_are_found_in_their_cell_alone():
    rng = np.random.default_rng(0)
    names = np.array([channel(k, c, r) for k in (KEY, BALL) for c in range(3) for r in range(3)])
    table = rng.standard_normal((len(names), 200))
    there, elsewhere = (np.flatnonzero(names == channel(KEY, c, 1))[0] for c in (1, 2))
    table[np.flatnonzero(names == channel(BALL, 1, 1))[0]] = -table[there] * 2
    table[np.flatnonzero(names == channel(BALL, 0, 0))[0]] = -table[elsewhere]  # not its cell
    cosine, pairs, count = antipodal(table, names, -0.5)
    assert count == 1 and len(pairs) == 9
    (found,) = pairs[pairs.antipodal].itertuples()
    assert (found.column, found.row, found.one, found.other) == (1, 1, "key", "ball")
    assert found.cosine == pytest.approx(-1)
    assert np.allclose(np.diag(cosine), 1)
    shuffled = rng.permutation(len(names))
    assert antipodal(table[shuffled], names[shuffled], -0.5)[2] == 1


def test_an_object_and_a_colour_of_one_cell_do_not_exclude_each_other():
    names = np.array([channel(KEY, 1, 1), channel(11, 1, 1), channel(17, 1, 1)])
    assert not len(antipodal(np.eye(3), names, -0.5)[1])


def test_shares_add_to_one_and_a_line_has_one_component():
    rng = np.random.default_rng(1)
    share, projection = principal(rng.standard_normal((12, 30)))
    assert share.sum() == pytest.approx(1, abs=1e-12) and (np.diff(share) <= 1e-12).all()
    place = rng.standard_normal(9)
    share, projection = principal(np.outer(place, rng.standard_normal(30)) + 5)
    assert share[0] == pytest.approx(1)
    assert abs(np.corrcoef(projection[:, 0], place)[0, 1]) == pytest.approx(1)


def test_clusters_become_neighbours():
    group = np.array([0, 1, 0, 1, 0, 1])
    cosine = (group[:, None] == group).astype(float)
    assert len(set(group[clustered(cosine)][:3])) == 1


def test_members_are_the_named_channels_and_cells():
    names = np.array(
        [channel(KEY, 1, 1), channel(BALL, 1, 1), channel(KEY, 2, 6), channel(2, 2, 6)]
    )
    assert members(OBJECTS, names).tolist() == [0, 1, 2]
    assert members(Subset(channels=("key",), cells=((2, 6),)), names).tolist() == [2]
    (wrong,) = Subset(channels=("key", "kee"), cells=None).check()
    assert wrong == ("channels", "no channel 'kee' (did you mean 'key'?)")


def test_stage_writes_tables_figures_and_verdict(store, experiment_of, stage):
    run(experiment_of(stage))
    numbers = read_metrics(stage.path)
    assert numbers["embeddings/identity_error"] < TOLERANCE
    read = {
        name: pd.read_parquet(stage.path / "tables" / f"{name}.parquet")
        for name in ("norms", "pairs", "components", "maps")
    }
    assert read["components"].share.sum() == pytest.approx(1)
    assert set(read["norms"].kind) == {"state", "action", "time", "reward-to-go"}
    assert (read["norms"].kind == "state").sum() == numbers["embeddings/channels"]
    assert set(read["maps"].channel) == {"key", "ball"}
    # A model that was trained for three steps has nothing that stands out, and the stage says so.
    assert stage.summary().startswith("not established (control failed: antipodal pairs")
    result = stage.result()
    assert all(check.holds for check in result.checks)
    share = read["components"].set_index("component")
    assert numbers["embeddings/objects_pc12"] == share.share[[1, 2]].sum()
    assert numbers["embeddings/objects_random_95"] == share.random_95[2]
    for name in ("embeddings.png", "components.png", "embeddings.html"):
        assert (stage.path / "figures" / name).stat().st_size > 10_000


@pytest.fixture
def opposite(store, experiment_of, rollouts):
    """A model in whose embedding the ball of each cell is opposite to the key, and the episodes."""
    run(experiment_of(rollouts))
    _, model = build()
    with torch.no_grad():
        table = model.embed.W_S
        table[BALL * 49 : (BALL + 1) * 49] = -table[KEY * 49 : (KEY + 1) * 49]
    return model, rollouts.load()


SPEC = EmbeddingsSpec(antipodal=-0.5, subsets={"objects": OBJECTS}, controls=20, seed=0)


def test_planted_opposites_are_established(opposite):
    result = computing.compute(SPEC, *opposite)
    assert result.established and result.metrics["antipodal_pairs"] > 5


@pytest.mark.parametrize("broken", ["relabelling", "shares"])
def test_a_broken_identity_is_not_established(monkeypatch, opposite, broken):
    """Cosines that depend on the order of the channels; shares that do not add to 1."""
    if broken == "relabelling":
        count = iter(range(1000))

        def drifting(*arguments):
            cosine, pairs, number = antipodal(*arguments)
            return cosine, pairs.assign(cosine=pairs.cosine + next(count)), number

        monkeypatch.setattr(computing, "antipodal", drifting)
    else:
        monkeypatch.setattr(computing, "principal", lambda x: (np.ones(5), principal(x)[1]))
    result = computing.compute(SPEC, *opposite)
    assert [check.holds for check in result.checks] == [broken != "relabelling", broken != "shares"]
    assert all(control.holds for control in result.controls) and not result.established


def test_a_subset_that_does_not_occur_is_left_out(opposite):
    """As the subsets of one environment in the demonstrations of another."""
    boxes = Subset(channels=("box",), cells=None)
    with_objects = {"boxes": boxes, "objects": OBJECTS}
    result = computing.compute(dataclasses.replace(SPEC, subsets=with_objects), *opposite)
    assert set(result.tables["components"].subset) == {"objects"}
    assert "boxes: only 0 of its channels occur" in result.finding
    alone = computing.compute(dataclasses.replace(SPEC, subsets={"boxes": boxes}), *opposite)
    assert not len(alone.tables["maps"]) and len(alone.checks) == 1
    assert alone.metrics["boxes_pc12"] is None


@pytest.mark.parametrize(
    "change", [{"controls": 3}, {"antipodal": 0.1}, {"subsets": {}}, {"seed": -1}]
)
def test_impossible_values_are_named(stage, change):
    assert [name for name, _ in problems(dataclasses.replace(stage, **change))] == list(change)


def test_a_cell_outside_the_view_is_named():
    wrong = Subset(channels=(), cells=((2, 6), (7, 0)))
    assert [name for name, _ in (*problems(wrong), *wrong.check())] == ["channels", "cells"]
