"""Facts at stored rows: what is true there, what the window shows of it, and what the raw input tells."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pytest

from dtx.activations.facts import FactTable, check_facts
from dtx.activations.stored import Activations
from dtx.activations.windows import WindowActivations
from dtx.dataset.episodes import Episodes
from dtx.dataset.facts import Availability, Facts
from dtx.dt.fact_kinds import GROUPS, thresholds
from dtx.errors import UserError
from dtx.store.store import Store, used
from tests.activations.toy import stage
from tests.activations.worlds import activations, demonstrations, run
from tests.dataset.test_facts import views_of

NOW, EARLIER, HIDDEN = Availability
LEFT = ("dt.windows.padding=left", "dt.windows.first_share=1.0")
KINDS = {
    "memory": ("memory",),
    "memory, left padding": ("memory", *LEFT),
    "memory, clone": ("memory", "dt.reward_to_go=false"),
    "door_key": ("door_key",),
}


class Made(NamedTuple):
    what: WindowActivations
    stored: Activations
    table: FactTable
    facts: Facts

    @property
    def episodes(self) -> Episodes:
        return self.facts.episodes


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Iterator[Store]:
    """One for all tests here: they only read."""
    with used(Store(tmp_path_factory.mktemp("facts"))) as one:
        yield one


def made(store: Store, what: WindowActivations, **more) -> Made:
    run(store, what)
    stored = what.load()
    table = FactTable.of(stored, what.dataset, **{"least": 0.0, **more})
    return Made(what, stored, table, what.dataset.load_facts(more.get("derived")))


@pytest.fixture(params=KINDS, scope="module")
def case(request, store) -> Made:
    task, *overrides = KINDS[request.param]
    return made(store, activations(task, *overrides, other_windows=2))


def column(made: Made, name: str) -> np.ndarray:
    return made.table.values[:, made.table.names.index(name)]


def known(made: Made, name: str) -> np.ndarray:
    return made.table.known[:, made.table.names.index(name)]


def place(made: Made) -> np.ndarray:
    """(r,) the step of each row among all."""
    tokens = made.stored.tokens
    return made.episodes.start[tokens["episode"]] + tokens["step"].to_numpy()


def test_facts_are_what_the_demonstrations_say_row_by_row(case):
    tokens, episodes, at = case.stored.tokens, case.episodes, place(case)
    views = episodes.observations[episodes.observation[at]]
    for name, index in (("ball ahead", 6), ("key ahead", 5), ("wall ahead", 2)):
        if name in case.table.names:
            assert (column(case, name) == (views[:, 3, 5, 0] == index)).all(), name
    to_go = [
        episodes.reward[a : episodes.start[e] + episodes.length[e]].sum()
        for a, e in zip(at, tokens["episode"], strict=True)
    ]
    of_to_go = [n for n in case.table.names if n.startswith("reward-to-go")]
    assert of_to_go
    for name in of_to_go:
        assert (column(case, name) == (np.array(to_go) >= float(name.split()[-1]))).all()
    for name in (n for n in case.table.names if n.startswith("step >= ")):
        assert (column(case, name) == (tokens["step"] >= int(name.split()[-1]))).all()
    for row in np.random.default_rng(0).permutation(len(at))[:200]:
        line = tokens.iloc[row]
        last = (
            episodes.action[at[row]]
            if line.kind == "A"
            else (episodes.action[at[row] - 1] if line.step > line.start else None)
        )
        for number, name in enumerate(("left", "right", "forward")):
            assert column(case, f"action = {name}")[row] == (last == number)
    assert set(case.table.group) <= set(GROUPS)
    assert (
        case.table.values.shape
        == case.table.known.shape
        == (len(case.stored), len(case.table.names))
    )
    assert not {n for n in case.table.names if case.table.names.count(n) > 1}


def brute(made: Made, name: str, line, row: int) -> Availability:
    """What the window shows of a fact up to a row's token, asked view by view."""
    fact, at = made.facts.fact(name), int(place(made)[row])
    if fact.of:
        return max(brute(made, other, line, row) for other in fact.of)
    told = fact.told(made.facts.states.shown(views_of(made.facts)))
    last = at - 1 if line.kind == "R" else at
    value = made.facts.column(name)
    for step in range(last, at - line.step + line.start - 1, -1):
        if told[made.facts.state[step]]:
            return NOW if step == at else EARLIER if value[step] == value[at] else HIDDEN
    return HIDDEN


def test_what_windows_show_is_asked_view_by_view(case):
    tokens = case.stored.tokens
    names = {
        "instruction": "instruction = ball", "ahead": "wall ahead", "x": "x = 2",
        "target_side": "target side = left", "carrying": "carrying = key", "key_x": "key x = 1",
        "door": "door = locked", "left_of_agent": "wall left of agent",
    }  # fmt: skip
    tried = {fact: name for fact, name in names.items() if name in case.table.names}
    assert len(tried) >= 5
    found = set()
    for row in np.random.default_rng(1).permutation(len(tokens))[:60]:
        for fact, name in tried.items():
            wanted = brute(case, fact, tokens.iloc[row], row)
            assert known(case, name)[row] == wanted, (fact, tokens.iloc[row].to_dict())
            found.add(wanted)
    assert found == set(Availability)


def test_a_window_that_starts_later_does_not_show_what_came_before(store):
    found = made(store, activations("memory", other_windows=3))
    tokens = found.stored.tokens
    instruction = known(found, "instruction = ball")
    at_start = (tokens["start"] == 0) & (tokens["kind"] == "S") & (tokens["step"] == 0)
    assert (instruction[at_start] == NOW).all()
    assert (instruction[(tokens["start"] == 0) & (tokens["step"] > 0)] != HIDDEN).all()
    assert (instruction[tokens["start"] > 2] == HIDDEN).any()
    assert (
        instruction[(tokens["kind"] == "R") & (tokens["step"] == tokens["start"])] == HIDDEN
    ).all()


def test_a_clone_is_not_told_reward_to_go(store):
    clone = made(store, activations("memory", "dt.reward_to_go=false"))
    assert set(clone.stored.tokens["kind"]) == {"S", "A"}
    name = next(n for n in clone.table.names if n.startswith("reward-to-go"))
    assert (known(clone, name) == HIDDEN).all()
    assert not [n for n in clone.table.input_names if "reward-to-go" in n]
    own = clone.stored.tokens["kind"] == "A"
    action = known(clone, "action = forward")
    assert (action[own] == NOW).all() and (action[~own] != NOW).all()


def test_only_state_tokens_stored_reads_reward_to_go_all_the_same(store):
    from dtx.activations.spec import TokenKind

    found = made(store, activations("memory", tokens=(TokenKind.S,)))
    name = next(n for n in found.table.names if n.startswith("reward-to-go"))
    assert (known(found, name) == EARLIER).all()


@pytest.mark.parametrize("task", ["memory", "door_key"])
def test_what_a_window_shows_is_the_same_wherever_its_prefix_occurs(store, task):
    first = activations(task, other_windows=None)
    tables = [made(store, dataclasses.replace(first, seed=seed)) for seed in (0, 1)]
    orders = [np.argsort(t.stored.columns["prefix"]) for t in tables]
    one, two = tables
    assert (
        one.stored.columns["prefix"][orders[0]] == two.stored.columns["prefix"][orders[1]]
    ).all()
    assert (
        place(one)[orders[0]] != place(two)[orders[1]]
    ).any()  # some are taken from other places
    differ = 0
    for name in sorted(set(one.table.names) & set(two.table.names)):
        a, b = (column(t, name)[o] for t, o in zip(tables, orders, strict=True))
        shown = [known(t, name)[o] for t, o in zip(tables, orders, strict=True)]
        both = (shown[0] != HIDDEN) & (shown[1] != HIDDEN)
        assert (a[both] == b[both]).all(), name
        differ += (a != b).sum()
    assert differ > 0  # of hidden ones a place was drawn


def test_joins_at_the_decision_follow_the_layout_and_reward_to_go(store):
    data = demonstrations(episodes=300)
    found = made(store, activations("memory", data=data))
    decision, episodes, at = data.env.decision, found.episodes, place(found)
    here = decision.here(episodes.observations[episodes.observation[at]])
    assert here.sum() > 20 and (column(found, "at the decision") == here).all()
    first = episodes.observation[episodes.start[found.stored.tokens["episode"]]]
    layout = decision.layout_of(
        episodes.observations[first], episodes.observations[episodes.observation[at]]
    )
    joined = {n: g for n, g in zip(found.table.names, found.table.group, strict=True)
              if n.startswith("at the decision, key/left")}  # fmt: skip
    assert set(joined.values()) == {"computed"} and len(joined) == 3
    assert (column(found, "at the decision, key/left") == here & (layout == 0)).all()
    least = float(next(n for n in joined if ">=" in n).split()[-1])
    high = episodes.reward_to_go[at] >= least
    right, wrong = decision.turns(range(4))
    for action, name in enumerate(("left", "right")):
        turn = np.where(high, right[layout], wrong[layout])
        assert (column(found, f"turn asked for = {name}") == here & (turn == action)).all()
    states = found.stored.tokens["kind"] == "S"
    alone = known(found, "at the decision, key/left")
    assert (alone[states & (found.stored.tokens["start"] == 0)] == EARLIER).any()
    assert (alone[found.stored.tokens["kind"] == "R"] == HIDDEN).all()


def test_rare_constant_and_equal_facts_are_left_out_by_how_often_they_occur(store):
    data = activations("memory", other_windows=2)
    everything = made(store, data)
    weight = everything.stored.columns["count"] / everything.stored.columns["count"].sum()
    share = weight @ everything.table.values
    assert ((share > 0) & (share < 1)).all()
    plain = everything.table.values.mean(0)
    least = 0.1
    assert ((share >= least) != (plain >= least)).any()  # rows and tokens do not say the same
    some = FactTable.of(everything.stored, data.dataset, least=least)
    wanted = [
        n for n, p in zip(everything.table.names, share, strict=True) if least <= p <= 1 - least
    ]
    assert some.names == wanted
    columns = everything.table.values
    assert len(np.unique(columns, axis=1).T) == len(everything.table.names)
    same = everything.table.also["instruction = ball"]
    assert same == ["cell 1,2 = ball"]


def test_rows_and_derived_facts(store):
    derived = {"far": "x > 2", "far_ball": "far and instruction == 'ball'"}
    found = made(store, activations("memory"), derived=derived)
    far = found.facts.column("x")[place(found)] > 2
    assert (column(found, "far") == far).all()
    ball = found.facts.column("instruction")[place(found)] == "ball"
    assert (column(found, "far ball") == far & ball).all()
    assert found.table.group[found.table.names.index("far ball")] == "computed"
    rows = np.array([7, 3, 11, 3])
    some = FactTable.of(found.stored, found.what.dataset, derived, rows=rows, least=0)
    assert len(some.names) > 5
    for name in set(some.names) & set(found.table.names):
        assert (some.values[:, some.names.index(name)] == column(found, name)[rows]).all()


def test_inputs_tell_the_token_and_the_view_and_nothing_else(case):
    inputs, names, tokens = case.table.inputs(), case.table.input_names, case.stored.tokens
    assert (
        inputs.dtype == np.uint8 and inputs.shape == (len(tokens), len(names)) and inputs.max() == 1
    )
    assert len(set(names)) == len(names)
    at, episodes = place(case), case.episodes
    views = episodes.observations[episodes.observation[at]]
    has_view = (tokens["kind"] != "R").to_numpy()
    of_view = [i for i, n in enumerate(names) if n.startswith("view")]
    assert not inputs[~has_view][:, of_view].any()
    name = "view 3,5 = wall"
    assert (inputs[has_view, names.index(name)] == (views[has_view, 3, 5, 0] == 2)).all()
    # Two rows of one kind, step, view, own reward-to-go and own action have the same inputs.
    to_go = np.where(tokens["kind"] == "R", episodes.reward_to_go[at], -1)
    action = np.where(tokens["kind"] == "A", episodes.action[at], 9)
    contents = np.column_stack(
        [tokens["kind"].cat.codes, tokens["step"], tokens["view"], action, np.round(to_go * 1e4)]
    )
    _, first, index = np.unique(contents, axis=0, return_index=True, return_inverse=True)
    assert (inputs[first][index.ravel()] == inputs).all()
    assert len(first) < len(tokens)


def test_thresholds_part_the_tokens_and_lie_between_values():
    values, weight = np.array([0.0, 0.1, 0.5, 0.892]), np.array([97.0, 1, 1, 1])
    assert thresholds(values, weight) == [0.05]
    assert thresholds(values, np.ones(4)) == [0.05, 0.3, 0.696]
    assert thresholds(values, np.ones(4), middle=True)[0] == 0.446
    assert thresholds(np.zeros(4), weight) == []


def test_bad_input_is_told(store):
    found = made(store, activations("memory"))
    other = demonstrations(episodes=61)
    run(store, other)
    with pytest.raises(
        UserError, match=r"activations on rollouts-.*, not on rollouts-.*same demonstr"
    ):
        FactTable.of(found.stored, other)
    with pytest.raises(UserError, match=r"near: .*'instructio', which is no fact.*'instruction'"):
        FactTable.of(found.stored, found.what.dataset, {"near": "instructio == 'key'"})
    assert dict(check_facts(found.what.dataset, {"near": "instructio == 'key'"})).keys() == {
        "facts.near"
    }
    assert not list(check_facts(found.what.dataset, {"near": "x > 1"}))
    without = demonstrations("door_key", facts=False)
    assert [f for f, what in check_facts(without, {}) if "dataset.facts=true" in what] == [
        "dataset"
    ]
    bare = activations("door_key", data=without)
    run(store, bare)
    with pytest.raises(
        UserError, match=r"no facts were recorded; record again with dataset\.facts"
    ):
        FactTable.of(bare.load(), without)
    assert not list(check_facts(stage().dataset, {}))  # its config does not say
