import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import dtx
from dtx.config.compose import build_group
from dtx.errors import UserError
from dtx.running.runner import run
from dtx.store.store import Store, current
from tests.dt.test_model import contexts
from tests.dt.toy import Drawn, Recorded, tiny
from tests.toys import Number


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """A store with the planted model, which was committed as a run commits it."""
    from dtx.running.provenance import provenance

    store = Store(tmp_path_factory.mktemp("planted") / "store")
    stage = build_group("dt/planted")
    with store.work(stage) as work:
        stage.run(work)
        store.commit(stage, work, provenance(stage))
    return store, stage


def test_importing_dtx_imports_nothing_heavy():
    command = (
        "import dtx, sys; assert not {'torch', 'pandas', 'hydra', 'omegaconf'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", command], check=True)


def test_a_model_is_found_by_config_label_and_key(planted):
    store, stage = planted
    before = current()
    found = [
        dtx.load("dt", "planted", store=store),
        dtx.load("dt", stage.label, store=store.root),
        dtx.load("dt", stage.label[:11], store=store),
        dtx.load("dt", stage.key[:6], store=store),
    ]
    assert [f.label for f in found] == [stage.label] * 4
    assert [f.env for f in found] == [stage.env] * 4
    assert found[0].headline["planted/right_rollouts"] == 8
    assert "features" in found[0].tables and len(found[0].tables["features"])
    assert found[0].config["context"] == stage.context
    assert current() is before or current().root == before.root


def test_a_model_plays_runs_and_has_pairs(planted):
    store, stage = planted
    dt = dtx.load("dt", stage.key, store=store)
    played = dt.rollout([0.0, 0.9], episodes=6, greedy=True)
    assert list(played.columns) == ["reward_to_go", "episode", "return", "length", "outcome"]
    by_target = played.groupby("reward_to_go")["outcome"].unique()
    assert [list(v) for v in by_target] == [["wrong"], ["success"]]
    sampled = [dt.rollout(0.9, 3, seed=seed) for seed in (1, 1, 2)]
    assert sampled[0].equals(sampled[1])
    logits, cache = dt.run_with_cache(dt.decisions(0.9), names=["blocks.0.hook_resid_pre"])
    assert set(cache.cache_dict) == {"blocks.0.hook_resid_pre"}
    assert logits[:, -1].argmax(-1).tolist() == [
        stage.env.decision.turns([i])[0][0] for i in range(len(logits))
    ]
    pairs = dt.pairs("memory", "pairs.source.variants=2")
    assert pairs is dt.pairs("memory", "pairs.source.variants=2")
    batch = pairs.batches(dt.model)[0]
    assert (dt.model(batch.clean) != dt.model(batch.corrupt)).any()
    assert len(pairs.pictures())  # the folder lives as long as the model
    with pytest.raises(UserError, match=r"of its demonstrations  ?none is known"):
        dt.windows()
    with pytest.raises(UserError, match=r"no config 'memry' \(did you mean 'memory'\?\)"):
        dtx.load("dt", stage.key, store=store).pairs("memry", "pairs.source.variants=2")
    for wrong in ({"episodes": 0}, {"temperature": 0.0}):
        with pytest.raises(UserError, match=r"rollout: "):
            dt.rollout(0.9, **wrong)
    with pytest.raises(UserError, match=r"has 7 actions, but .*Obstacles.* has 3"):
        dt.rollout(0.9, env="dynamic_obstacles")


def test_pairs_of_the_store_are_taken_where_there_are_some(planted, tmp_path, experiment_of, store):
    _, stage = planted
    run(experiment_of(stage))
    declared = build_group("pairs/memory", ["pairs.dataset=null", "pairs.source.variants=1"])
    run(experiment_of(declared))
    dt = dtx.load("dt", "planted", store=store)
    found = dt.pairs(None, "pairs.source.variants=1")
    assert found.folder == store.folder(declared)
    assert dt.pairs(declared.label[:14]).folder == store.folder(declared)
    assert dtx.load("pairs", declared.key, store=store).pairs.folder == store.folder(declared)


def test_a_trained_model_with_its_demonstrations_and_checkpoints(store, experiment_of):
    stage = Drawn(dataset=Recorded())
    run(experiment_of(stage))
    dt = dtx.load("dt", stage.label, store=store)
    context = contexts(tiny())
    logits, cache = dt.run_with_cache(context)
    torch.testing.assert_close(logits, stage.load()(context), rtol=0, atol=1e-5)
    folded, _ = dt.folded().run_with_cache(context)
    torch.testing.assert_close(folded, logits, rtol=0, atol=1e-5)
    assert torch.equal(dt.at(6).model.W_U, stage.load().W_U)
    assert not torch.equal(dt.at(0).model.W_U, stage.load().W_U)
    assert cache["blocks.0.hook_resid_pre"].shape[-1] == 16
    with pytest.raises(UserError, match=r"kept no checkpoint of step 999 \(kept: 0, 6\)"):
        dt.at(999)
    with pytest.raises(UserError, match=r"no record names its environment; name one: env='memory'"):
        dt.rollout()
    assert len(dt.rollout(0.9, 2, env="memory env.max_steps=6")) == 2


def test_demonstrations_are_columns_and_windows(store, planted, experiment_of, tmp_path):
    from dtx.dataset.episodes import EpisodeWriter
    from tests.dt.toy import episodes

    wanted = episodes()
    folder = tmp_path / "data"
    folder.mkdir()
    writer = EpisodeWriter(folder)
    ids = writer.identify(wanted.observations[wanted.observation])
    for i in range(len(wanted.start)):
        part = slice(wanted.start[i], wanted.start[i] + wanted.length[i])
        steps = {
            "observation": ids[part],
            "action": wanted.action[part],
            "reward": wanted.reward[part],
        }
        writer.append(
            {k: v[None] for k, v in steps.items()},
            wanted.length[i : i + 1],
            wanted.outcome[i : i + 1],
            1.0,
        )
    writer.finish(0.2, 0, {"env": "some-v0"})
    loaded = dtx.load("dataset", path=folder)
    columns = loaded.columns
    assert (columns["action"] == wanted.action).all()
    assert np.allclose(columns["returns"], wanted.returns)
    assert np.allclose(columns["reward_to_go"], wanted.reward_to_go)
    dt = dtx.load("dt", "planted", store=planted[0])
    dt.__dict__["episodes"] = loaded.episodes
    windows = dt.windows(7, steps=2)
    assert windows.shape == (7, 5) and dt.run_with_cache(windows)[0].shape == (7, 2, 7)
    assert torch.equal(windows["action"], dt.windows(7, steps=2)["action"])


def test_what_is_missing_is_said_with_the_command_that_makes_it(planted, store, monkeypatch):
    kept, stage = planted
    with pytest.raises(UserError) as error:
        dtx.load("dt", "planted", "dt.rotation=true", store=kept, seed=4)
    text = str(error.value)
    assert "run `dtx run dt=planted target=dt dt.rotation=true seed=4 store.path=" in text
    assert f"of this kind there are: {stage.label}" in text
    with pytest.raises(UserError, match=r"run `dtx run experiment=quickstart target=dt store.path"):
        dtx.load("dt", "quickstart", store=kept)
    with pytest.raises(
        UserError, match=r"no dt of the store .* begins so.*planted-.*or a config: .*memory_dt"
    ):
        dtx.load("dt", "nothing", store=kept)
    with pytest.raises(UserError, match=r"no group 'dts' \(did you mean 'dt'\?\)"):
        dtx.load("dts", "planted", store=kept)
    with pytest.raises(UserError, match=r"is an artefact; overrides go with a config's name"):
        dtx.load("dt", stage.label, "dt.seed=1", store=kept)
    with pytest.raises(UserError, match=r"no store at"):
        dtx.load("dt", "nothing", store=store)


def test_several_that_begin_alike_are_listed(store, experiment_of):
    one, two = Number(value=1), Number(value=2)
    run(experiment_of(one, two))
    with pytest.raises(UserError) as error:
        dtx.load("analysis", "toys", store=store)
    assert one.label in str(error.value) and two.label in str(error.value)
    assert dtx.load("analysis", one.key, store=store).label == one.label


def test_a_record_names_no_class_and_a_damaged_file_is_found(planted, tmp_path):
    """A class in done.json is data: a record that names another loads the same model."""
    import shutil

    kept, stage = planted
    store = Store(tmp_path / "copy")
    shutil.copytree(kept.folder(stage), store.folder(stage))
    path = store.folder(stage) / "done.json"
    path.write_text(
        json.dumps({**json.loads(path.read_text()), "class": "os.system", "stage": "planted"})
    )
    assert dtx.load("dt", stage.label, store=store).rollout(0.9, 1, greedy=True)["length"][0] == 6
    weights = store.folder(stage) / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4])
    with pytest.raises(UserError, match=r"corrupt artefact: .*weights.safetensors"):
        dtx.load("dt", stage.label, store=Store(Path(store.root)))
