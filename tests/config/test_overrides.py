"""Generated overrides, right and wrong: each gives a plan or one clear line an error, never a traceback."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import enum
import functools
import io
import math
import operator
import os
import string
import traceback
import zlib
from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from dtx.cli import main
from dtx.config.build import Builder, ConfigError
from dtx.config.compose import CONF, compose, experiment
from dtx.stage import Stage
from tests.config.odd_values import ODD_VALUES

PRESETS = sorted(p.stem for p in CONF.glob("experiment/*.yaml"))
FEW = -(-90 // len(PRESETS))
"""Examples of each preset in the fast tests: 90 in all, beside the references and ranges that other tests
try one by one."""
EXAMPLES = int(os.environ.get("DTX_OVERRIDES", "0")) or -(-300 // len(PRESETS))
"""Examples of each preset in the slow tests, 300 in all. DTX_OVERRIDES=5000 looks for more,
each time in other places."""
SEARCHING = "DTX_OVERRIDES" in os.environ


# --- what is overridden ------------------------------------------------------------------------------


def places(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """All dotted places of a config, inner nodes too, with their values as written."""
    for name, value in node.items():
        yield f"{prefix}{name}", value
        if isinstance(value, dict):
            yield from places(value, f"{prefix}{name}.")


FIELDS = {
    preset: dict(
        places(OmegaConf.to_container(compose([f"experiment={preset}"]), resolve=False))  # type: ignore[arg-type]
    )
    for preset in PRESETS
}

GROUPS = [
    "env",
    "agent",
    "dataset",
    "dt",
    "activations",
    "dictionary",
    "analysis",
    "experiment",
    "store",
    "tracking",
    "hydra/launcher",
]
OPTIONS = sorted({p.stem for p in CONF.glob("*/*.yaml")})
CHOICES = st.one_of(
    st.sampled_from(OPTIONS),
    st.lists(st.sampled_from(OPTIONS), max_size=3).map(lambda names: f"[{','.join(names)}]"),
    st.sampled_from(
        ["null", "smal", "[small", "[nothing]", "", "3", "../env/memory", "${seed}", "a@b", "é"]
    ),
)
NAMES = st.text(string.ascii_lowercase + "_.@/:[]0 é-", max_size=12)

integers = st.integers(-(10**20), 10**20).map(str)
floats = st.floats().map(repr)
letters = st.one_of(
    st.sampled_from(string.printable),
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"),
)
texts = st.text(letters, max_size=12)
values = st.one_of(
    st.sampled_from(ODD_VALUES), st.sampled_from(ODD_VALUES), integers, floats, texts
)
prefixes = st.sampled_from(["", "", "", "", "", "+", "++", "~"])


def mistyped(name: str, position: int, letter: str) -> str:
    """The name with one letter in another's place."""
    at = position % len(name)
    return name[:at] + letter + name[at + 1 :]


def overrides(preset: str) -> st.SearchStrategy[str]:
    """One override of a preset's config: mostly of a real field, with a value right or wrong."""
    known = st.sampled_from(sorted(FIELDS[preset]))
    wrong = st.builds(mistyped, known, st.integers(0, 60), st.sampled_from("xyz._"))
    deeper = st.builds("{}.{}".format, known, NAMES)
    targets = known.map(lambda name: name + "._target_")
    bases = known.map(lambda name: name + "._base_")
    name = st.one_of(known, known, known, wrong, deeper, targets, bases, NAMES)
    return st.one_of(
        st.builds("{}{}={}".format, prefixes, name, values),
        st.builds("{}{}={}".format, prefixes, known, values),
        st.builds("{}={}".format, known, known.map(lambda other: f"${{{other}}}")),
        st.builds("{}{}={}".format, prefixes, st.sampled_from(GROUPS), CHOICES),
        st.builds("~{}".format, name),
        texts,
    ).filter(lambda text: not text.startswith("-"))  # those are flags


# --- what must come of it ----------------------------------------------------------------------------


def planned(*arguments: str) -> tuple[int, list[str], list[str]]:
    """Exit status, and the lines on standard output and standard error."""
    out, error = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        status = main(["plan", *arguments])
    return status, out.getvalue().splitlines(), error.getvalue().splitlines()


def escaped(text: str) -> str:
    """What a message shows of a text."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def verdict(preset: str, given: list[str]) -> str | None:
    """What is wrong with the answer to some overrides; None if it is as it must be."""
    try:
        status, said, errors = planned(f"experiment={preset}", *given)
    except BaseException:
        return traceback.format_exc()
    if status == 0:
        return None if said and not errors else f"a plan with {said}, {errors}"
    if status != 2 or said or not errors:
        return f"status {status} with {said}, {errors}"
    for line in errors:
        if not line.startswith("dtx: error: "):
            return f"not an error line: {line!r}"
        place = line.removeprefix("dtx: error: ").split(": ")[0]
        if len(line) > 1000:
            return f"{len(line)} characters: {line[:200]!r}"
        if not line.isprintable():
            return f"control characters: {line!r}"
        top = place.split(".")[0].split("[")[0]
        mine = any(place.strip("'")[:20] in escaped(text) for text in given)
        if top not in FIELDS[preset] and not mine:
            return f"names no place: {line!r}"
    return None


@pytest.mark.parametrize(
    "examples",
    [pytest.param(FEW, id="few"), pytest.param(EXAMPLES, id="all", marks=pytest.mark.slow)],
)
@pytest.mark.parametrize("preset", PRESETS)
def test_an_override_gives_a_plan_or_a_line_an_error(preset, examples, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(overrides(preset), min_size=1, max_size=2))
    def check(given: list[str]) -> None:
        assert (found := verdict(preset, given)) is None, f"{given}\n{found}"
        assert not list(tmp_path.iterdir()), "plan wrote a file"

    if not SEARCHING:  # the same in each run, and others for each preset
        check = hypothesis.seed(zlib.crc32(preset.encode()))(check)
    check()


# --- right values arrive -----------------------------------------------------------------------------

RIGHT = {
    "agent.seed": st.integers(0, 2**63 - 1),
    "agent.width": st.integers(1, 10**9),
    "agent.lr": st.floats(1e-12, 100),
    "agent.gamma": st.floats(0, 1),
    "agent.stop_when_solved": st.booleans(),
    "agent.encoder": st.sampled_from(["linear", "conv"]),
    "dataset.episodes": st.integers(1, 10**12),
    "dataset.validation": st.floats(0, 0.99),
    "dt.steps": st.integers(50, 10**12),
    "dt.precision": st.sampled_from(["auto", "float32", "bfloat16"]),
    "dt.optimiser.weight_decay": st.floats(1e-9, 1e6),
    "dt.initialisation.matrix_std": st.one_of(st.none(), st.floats(1e-9, 10)),
    "dt.windows.first_share": st.floats(0.01, 1),
    "dt.windows.whole_share": st.floats(0, 1),
    "dt.windows.cut": st.one_of(st.none(), st.integers(1, 50)),
}


@pytest.mark.parametrize("place", RIGHT)
def test_a_right_value_arrives(place):
    @settings(max_examples=5, derandomize=not SEARCHING, deadline=None, database=None)
    @given(RIGHT[place])
    def check(value: Any) -> None:
        written = "null" if value is None else str(value)
        config = compose([f"{place}={written}"])
        experiment(config)
        group, *path = place.split(".")
        found = functools.reduce(getattr, path, Builder(config).at(group, Stage))
        assert (found.value if isinstance(found, enum.Enum) else found) == value

    check()


# --- nonsense is refused -----------------------------------------------------------------------------


@functools.cache
def plain() -> dict[str, Any]:
    """The default config as plain values."""
    return OmegaConf.to_container(compose([]))  # type: ignore[return-value]


def numbers(node: Any, place: str) -> Iterator[str]:
    """Places of all numbers below a node; of a list, the list's own place."""
    if isinstance(node, dict):
        for name, value in node.items():
            yield from numbers(value, f"{place}.{name}")
        return
    first = node[0] if isinstance(node, list) and node else node
    if isinstance(first, (int, float)) and not isinstance(first, bool):
        yield place


NUMBERS = [p for g in ("env", "agent", "dataset", "dt", "analysis") for p in numbers(plain()[g], g)]
MAY_BE_NEGATIVE = {"analysis.calibration.targets"}
MAY_BE_ZERO = {
    *("agent.lr_end", "agent.gamma", "agent.gae_lambda", "agent.entropy", "agent.entropy_end"),
    *("agent.value_weight", "agent.solved_at", "dataset.validation", "dt.kept_checkpoints"),
    *("dt.windows.end_share", "dt.windows.whole_share"),
    "dt.optimiser.final_share",
    *("dt.optimiser.weight_decay", "dt.optimiser.warm_up", "dt.optimiser.betas"),
    *("analysis.calibration.support", "analysis.calibration.untrained.steps"),
    *("analysis.calibration.untrained.optimiser.warm_up", "analysis.calibration.criteria.low"),
    *(f"analysis.calibration.criteria.{n}" for n in ("min_success", "min_spearman")),
    *(f"analysis.calibration.criteria.{n}" for n in ("min_wrong_layouts", "max_from_chance")),
    *(f"analysis.calibration.criteria.max_{n}" for n in ("above_failing", "from_demonstrations")),
}
"""An untrained model (steps 0), no decay, no penalty and the like; all other zeros are mistakes."""


def refused(place: str, value: Any) -> bool:
    """Whether a value in a number's place is an error; a list keeps its length."""
    config = copy.deepcopy(plain())
    *path, leaf = place.split(".")
    node = functools.reduce(operator.getitem, path, config)
    node[leaf] = [value] * len(node[leaf]) if isinstance(node[leaf], list) else value
    try:
        experiment(config)
    except ConfigError as error:
        return bool(error.errors)
    return False


@pytest.mark.parametrize("place", NUMBERS)
def test_nonsense_is_refused(place):
    wrong = [math.nan, math.inf, -math.inf, 2**63, 10**400]
    wrong += [-3] if place not in MAY_BE_NEGATIVE else []
    wrong += [0] if place not in MAY_BE_ZERO else []
    assert not [value for value in wrong if not refused(place, value)]


@pytest.mark.parametrize("place", sorted(MAY_BE_ZERO))
def test_a_zero_that_means_something_is_accepted(place):
    assert place in NUMBERS and not refused(place, 0)


@pytest.mark.parametrize(
    "place", ["analysis.calibration.targets", "dataset.mixture", "dt.optimiser.betas"]
)
def test_an_empty_list_is_refused(place):
    config = copy.deepcopy(plain())
    *path, leaf = place.split(".")
    functools.reduce(operator.getitem, path, config)[leaf] = []
    with pytest.raises(ConfigError, match=f"(?m)^{place}: "):
        experiment(config)


def test_seeds_reach_every_stage_and_may_be_any_of_their_range():
    for seed in (0, 2**63 - 1):
        target = experiment(compose([f"seed={seed}"])).targets["calibration"]
        seeds = {
            f.name: getattr(s, f.name)
            for s in (target, *target.inputs().values())
            for f in dataclasses.fields(s)
            if f.name == "seed"
        }
        assert set(seeds.values()) == {seed}
