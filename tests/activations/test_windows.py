"""Stored activations: every row is what the model computes, every token is counted, nothing is padding."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

import dtx
from dtx.activations.prefixes import Contents, WindowList, rows_of, windows_of
from dtx.activations.spec import Numbers
from dtx.activations.stored import PARTS, Activations, Part
from dtx.activations.windows import WindowActivations
from dtx.errors import UserError
from dtx.running.runner import run
from dtx.store.store import used
from tests.activations.toy import alone, fresh, stage
from tests.dt.toy import episodes

HOOK = "blocks.1.hook_resid_post"
HOOKS = ("hook_embed", "blocks.0.attn.hook_z", "blocks.0.mlp.hook_post", HOOK)
LEFT = ("dt.windows.padding=left", "dt.windows.first_share=1.0")
MODELS = {
    "right padding": fresh(),
    "whole episodes": fresh("dt.model.n_ctx=80", "dt.windows.context=20"),
    "left padding": fresh("dt.windows.padding=left"),
    "clone": fresh("dt.reward_to_go=false"),
    "clone, left padding": fresh("dt.reward_to_go=false", "dt.windows.padding=left"),
}


def made(store, what: WindowActivations, experiment_of) -> Activations:
    run(experiment_of(what))
    with used(store):
        return what.load()


def expected(kind: str, later: int | None) -> Counter:
    """How often every prefix occurs, by its content, counted window by window in plain Python."""
    dt, data = MODELS[kind], episodes()
    cfg = dt.model_config()
    to_go, found = data.reward_to_go, Counter()
    assert later in (0, None)
    for e in range(len(data.start)):
        length, first = int(data.length[e]), int(data.start[e])
        if cfg.left_padding:
            ends = range(1, length + 1) if later is None else [length]
            spans = [(max(0, end - cfg.n_steps), end) for end in ends]
        else:
            last = max(0, length - cfg.n_steps) if later is None else 0
            spans = [(b, min(length, b + cfg.n_steps)) for b in range(last + 1)]
        for begin, end in spans:
            padding = cfg.n_steps - (end - begin) if cfg.left_padding else 0
            content: tuple = (begin, padding)
            for step in range(begin, end):
                place = first + step
                for token in cfg.layout.kinds:
                    if token == "A" and step == end - 1:
                        continue  # a window ends with a state
                    value = {
                        "R": to_go[place],
                        "S": data.observation[place],
                        "A": data.action[place],
                    }
                    content += ((token, float(value[token])),)
                    found[content] += 1
    return found


@pytest.mark.parametrize("later", [0, None])
@pytest.mark.parametrize("kind", MODELS)
def test_each_distinct_prefix_is_there_once_with_its_count(kind, later, store, experiment_of):
    stored = made(store, stage(dt=MODELS[kind], other_windows=later), experiment_of)
    wanted = expected(kind, later)
    tokens = stored.tokens
    assert len(stored) == len(wanted) < wanted.total()
    assert tokens["count"].sum() == wanted.total()
    assert sorted(tokens["count"]) == sorted(wanted.values())
    assert tokens["prefix"].is_unique
    with used(store):
        metrics = stage(dt=MODELS[kind], other_windows=later).headline_metrics()
    assert metrics["activations/tokens"] == wanted.total()
    assert metrics["activations/rows"] == len(wanted)


@pytest.mark.parametrize("numbers", Numbers)
@pytest.mark.parametrize("kind", MODELS)
def test_a_row_recomputed_alone_is_the_stored_one(kind, numbers, store, experiment_of):
    dt = MODELS[kind]
    stored = made(store, stage(dt=dt, hooks=HOOKS, numbers=numbers), experiment_of)
    with used(store):
        model = dt.load()
    tokens, data = stored.tokens, episodes()
    chosen = np.random.default_rng(0).permutation(len(stored))[:60]
    for hook in HOOKS:
        array = stored.array(hook)
        assert array.dtype == numbers.dtype and array.shape == (len(stored), stored.hooks[hook])
        tolerance = 1e-5 if numbers is Numbers.float32 else 1e-3
        for number in chosen:
            again = alone(model, data, tokens.iloc[number], hook)
            there = torch.from_numpy(array[number].astype(np.float32))
            torch.testing.assert_close(there, again, rtol=tolerance, atol=tolerance)


def test_the_table_says_where_a_row_is_and_what_is_seen(store, experiment_of):
    stored = made(store, stage(other_windows=None), experiment_of)
    tokens, data = stored.tokens, episodes()
    place = data.start[tokens.episode] + tokens.step
    seen = tokens.kind != "R"
    assert (tokens.view[~seen] == -1).all()
    assert (tokens.view[seen] == data.observation[place][seen]).all()
    assert (tokens.step < data.length[tokens.episode]).all() and (tokens.start <= tokens.step).all()
    assert set(tokens.kind) == {"R", "S", "A"} and not tokens.padding.any()


def test_kinds_of_tokens_are_a_part_of_all(store, experiment_of):
    every = made(store, stage(), experiment_of)
    states = made(store, stage("activations.tokens=[S]"), experiment_of)
    assert set(states.tokens.kind) == {"S"} and states.about["kinds"] == "S"
    by_prefix = every.tokens[every.tokens.kind == "S"].set_index("prefix")["count"]
    assert states.tokens.set_index("prefix")["count"].sort_index().equals(by_prefix.sort_index())
    array = every.array(HOOK)
    row_of = {prefix: row for row, prefix in enumerate(every.tokens.prefix)}
    same = array[[row_of[prefix] for prefix in states.tokens.prefix]]
    np.testing.assert_allclose(states.array(HOOK), same, atol=2e-3)


def test_the_order_is_a_function_of_the_seed(store, experiment_of):
    one = made(store, stage(numbers=Numbers.float32), experiment_of)
    other = made(store, stage("activations.seed=1", numbers=Numbers.float32), experiment_of)
    data, cfg = episodes(), fresh().model_config()
    windows = windows_of(data, cfg, None, 1, 0)
    again = rows_of(Contents(data, cfg), windows, np.zeros(len(data.start), bool), tuple("RSA"), 0)
    assert (again.prefix == one.tokens.prefix).all()
    whole = [
        made(store, stage(f"activations.seed={s}", other_windows=None), experiment_of)
        for s in (0, 1)
    ]
    assert len(whole[0]) == len(whole[1])
    assert (whole[0].tokens.prefix != whole[1].tokens.prefix).any()
    assert set(whole[0].tokens.prefix) == set(whole[1].tokens.prefix)
    order = [np.argsort(w.tokens.prefix) for w in whole]
    np.testing.assert_allclose(
        *(w.array(HOOK)[o].astype(np.float32) for w, o in zip(whole, order, strict=True)), atol=2e-3
    )
    assert (other.tokens.prefix.to_numpy()[:50] != one.tokens.prefix.to_numpy()[:50]).any()


def test_splits_are_made_once_and_keep_apart_what_they_say(store, experiment_of):
    what = stage(other_windows=None, held_out=0.3)
    stored = made(store, what, experiment_of)
    tokens = stored.tokens
    assert list(tokens.by_episode.cat.categories) == list(PARTS)
    inside = (tokens.count_held_out > 0) & (tokens.count_held_out < tokens["count"])
    assert (tokens.by_episode[inside] == "neither").all() and inside.any()
    train, held = (stored.rows("episode", part) for part in (Part.TRAIN, Part.HELD_OUT))
    assert not tokens.count_held_out.iloc[train].any()
    assert not set(tokens.episode.iloc[train]) & set(tokens.episode.iloc[held])
    assert abs(len(stored.rows("prefix", Part.HELD_OUT)) / len(stored) - 0.3) < 0.01
    views = [set(tokens.view.iloc[stored.rows("view", part)]) for part in Part]
    assert not views[0] & views[1] and len(views[1]) == round(0.3 * 6) and views[2] == {-1}
    with pytest.raises(UserError, match=r"no split by 'episodes' \(did you mean 'episode'\?\)"):
        stored.rows("episodes")


def test_fewer_episodes_and_other_windows_are_drawn_by_the_seed(store, experiment_of):
    data, cfg = episodes(), fresh().model_config()
    some = windows_of(data, cfg, 10, 2, 3)
    counts = Counter(some.episode.tolist())
    assert len(counts) == 10
    for episode, count in counts.items():
        assert count == 1 + min(2, max(0, int(data.length[episode]) - cfg.n_steps))
        begins = some.begin[some.episode == episode]
        assert len(set(begins)) == len(begins) and 0 in begins
    assert (some.length[1:] <= some.length[:-1]).all()
    drawn = [windows_of(data, cfg, 10, 2, seed) for seed in (3, 4)]
    assert (drawn[0].row == some.row).all() and set(drawn[1].row) != set(some.row)


def test_rows_are_dealt_to_shards_by_whole_windows():
    data, cfg = episodes(), fresh().model_config()
    windows: WindowList = windows_of(data, cfg, None, None, 0)
    held = np.zeros(len(data.start), bool)
    small, large = (
        rows_of(Contents(data, cfg), windows, held, tuple("RSA"), 0, shard) for shard in (64, 10**6)
    )
    assert small.shards[0] == 0 and small.shards[-1] == len(small) and len(large.shards) == 2
    sizes, largest = np.diff(small.shards), np.bincount(small.window).max()
    assert (
        len(sizes) > 5
        and (sizes[:-1] < 64 + 2 * largest).all()
        and (sizes[1:-1] > 64 - largest).all()
    )
    for begin, end in zip(small.shards[:-1], small.shards[1:], strict=True):
        inside = set(small.window[begin:end])
        assert not inside & set(small.window[end:])
    assert set(small.prefix) == set(large.prefix)


# --- batches -----------------------------------------------------------------------------------------


def test_batches_hold_every_row_once_a_pass_and_their_numbers(store, experiment_of):
    stored = made(store, stage(other_windows=None), experiment_of)
    array = stored.array(HOOK)
    seen = []
    for x, rows in stored.batches(HOOK, 7, passes=1, seed=2):
        assert x.shape == (7, 16) and x.dtype == np.float32
        assert (x == array[rows]).all()
        seen += rows.tolist()
    assert len(seen) == len(set(seen)) == len(stored) // 7 * 7
    train = stored.rows("episode")
    some = np.concatenate([r for _, r in stored.batches(HOOK, 5, rows=train, passes=1)])
    assert set(some) <= set(train) and len(some) == len(train) // 5 * 5
    endless = stored.batches(HOOK, 7, seed=2)
    again = np.concatenate([next(endless)[1] for _ in range(2 * (len(stored) // 7))])
    assert again[: len(seen)].tolist() == seen and again[len(seen) :].tolist() != seen
    with pytest.raises(UserError, match="fewer than one batch of 100000000"):
        stored.batches(HOOK, 10**8)
    with pytest.raises(
        UserError, match=r"no activations of 'blocks.1.hook_resid_pst' \(did you mean"
    ):
        stored.batches("blocks.1.hook_resid_pst", 4)


def test_dtx_load_gives_arrays_and_the_frame(store, experiment_of):
    what = stage()
    made(store, what, experiment_of)
    handle = dtx.load("activations", what.label, store=store)
    assert handle.arrays[HOOK].shape == (len(handle.tokens), 16)
    assert handle.tables["counts"].tokens.sum() == handle.tokens["count"].sum()
    assert handle.headline["activations/rows"] == len(handle.tokens)
    with pytest.raises(KeyError, match="did you mean"):
        handle.arrays["blocks.1.hook_resid_pots"]
    assert "distinct prefixes of" in store.done(what)["summary"]
