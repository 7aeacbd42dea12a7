"""Typed build of configs: references, types, and all errors at once."""

import dataclasses
import math
import typing

import pytest
from omegaconf import OmegaConf

from dtx.config.build import Builder, ConfigError
from dtx.config.compose import CONF, StoreConfig, build_group, compose, experiment
from dtx.store.remote import Remote
from tests.required import required
from tests.toys import Number, Part, Sign, Sum

NUMBER = {
    "_target_": "tests.toys.Number",
    "value": 1,
    "sign": "plus",
    "parts": [{"weight": 2}, {"weight": "1/3"}],
    "workers": "${seed}",
}


def build(config: dict, place: str = "one"):
    builder = Builder(OmegaConf.create({"seed": 7, **config}))
    built = builder.at(place, object)
    builder.finish()
    return built


def errors_of(config: dict, place: str = "one") -> dict[str, str]:
    with pytest.raises(ConfigError) as error:
        build(config, place)
    return dict(error.value.errors)


def test_values_become_typed():
    number = build({"one": NUMBER})
    assert number == Number(
        value=1, sign=Sign.PLUS, parts=(Part(weight=2.0), Part(weight=1 / 3)), workers=7
    )


def test_a_reference_is_the_same_object_and_base_changes_a_copy():
    config = {
        "one": NUMBER,
        "two": {"_base_": "${one}", "value": 5},
        "three": {"_base_": "${two}", "sign": "minus"},
        "total": {
            "_target_": "tests.toys.Sum",
            "left": "${one}",
            "right": "${three}",
            "seconds": 0,
            "fail": "",
        },
    }
    total = build(config, "total")
    assert isinstance(total, Sum)
    assert total.left == build({"one": NUMBER})
    assert total.right == dataclasses.replace(total.left, value=5, sign=Sign.MINUS)


def test_all_errors_come_at_once_with_their_place():
    wrong = {
        **NUMBER,
        "value": "x",
        "sign": "plsu",
        "parts": [{"weight": "a"}, {"wieght": 1.0}],
        "vlaue": 3,
    }
    errors = errors_of({"one": wrong})
    assert "did you mean 'value'" in errors["one.vlaue"]
    assert "whole number" in errors["one.value"]
    assert "one of plus, minus" in errors["one.sign"]
    assert "a number is wanted" in errors["one.parts[0].weight"]
    assert "did you mean 'weight'" in errors["one.parts[1].wieght"]
    assert "needs a value" in errors["one.parts[1].weight"]


def test_an_error_in_a_referred_config_is_told_once_at_its_own_place():
    config = {
        "one": {**NUMBER, "value": 1.5},
        "two": {"_base_": "${one}", "sign": "plus"},
        "total": {
            "_target_": "tests.toys.Sum",
            "left": "${one}",
            "right": "${two}",
            "seconds": 0,
            "fail": "",
        },
    }
    assert errors_of(config, "total") == {"one.value": "a whole number is wanted, not 1.5"}


@pytest.mark.parametrize(
    ("change", "place", "words"),
    [
        ({"value": True}, "one.value", "whole number"),
        ({"value": None}, "one.value", "whole number"),
        ({"value": "???"}, "one.value", "needs a value"),
        ({"value": "${nowhere}"}, "one.value", "nowhere"),
        ({"parts": 3}, "one.parts", "a list is wanted"),
        ({"parts": [3]}, "one.parts[0]", "a Part is wanted"),
        ({"parts": [{"weight": 0}]}, "one.parts[0].weight", "must be above 0"),
        ({"_target_": "tests.toys.Nubmer"}, "one._target_", "cannot import"),
        ({"_target_": "os.system"}, "one._target_", "not a dataclass"),
        ({"_target_": "..a"}, "one._target_", "cannot import"),
        ({"value": "${one}"}, "one.value", "whole number is wanted, not ${one}"),
        ({"value": "${one.value}"}, "one.value", "refers to itself"),
        ({"value": "a${one.value}"}, "one.value", "ecursive"),
        ({"value": 2**63}, "one.value", "too large"),
        ({"value": math.inf}, "one.value", "finite"),
        ({"parts": [{"weight": math.nan}]}, "one.parts[0].weight", "finite"),
        ({"parts": [{"weight": 10**400}]}, "one.parts[0].weight", "too large"),
        ({"_base_": "${one}"}, "one._base_", "circle"),
        ({"_base_": "${seed}"}, "one._base_", "no fields"),
    ],
)
def test_each_mistake_is_explained(change, place, words):
    assert words in errors_of({"one": {**NUMBER, **change}})[place]


def test_a_stage_of_the_wrong_kind_is_refused():
    part = {"_target_": "tests.toys.Part", "weight": 1}
    total = {
        "_target_": "tests.toys.Sum",
        "left": part,
        "right": "${one}",
        "seconds": 0,
        "fail": "",
    }
    config = {"one": NUMBER, "total": total}
    assert "a Number is wanted" in errors_of(config, "total")["total.left"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("dataset.agent=${dt}", "dataset: needs itself: dataset -> dt -> dataset"),
        ("agent.env=${agent}", "agent: needs itself: agent -> agent"),
        ("dataset.agent=${env}", "an AgentStage is wanted, not ${env} (dtx.env.memory.Memory)"),
        ("agent.env=${dt.model}", "an Environment is wanted, not ${dt.model}"),
        ("agent.epochs=${env}", "agent.epochs: a whole number is wanted, not ${env}"),
        ("dt.optimiser.betas=[0.9]", "dt.optimiser.betas: a list of 2 is wanted, not [0.9]"),
    ],
)
def test_what_is_referred_to_must_be_of_the_kind_wanted(override, message):
    with pytest.raises(ConfigError) as error:
        experiment(compose([override]))
    assert message in str(error.value)


def test_a_message_is_one_printable_line():
    errors = errors_of({"one": {**NUMBER, "sign": "a\nb\x1b[2J" + "z" * 10_000}})
    assert errors["one.sign"].isprintable() and len(errors["one.sign"]) < 400


def test_several_values_without_a_sweep_say_how_to_sweep():
    for override in ("dt.seed=0,1", "dt.seed=range(3)"):
        with pytest.raises(ConfigError, match=r"^dt.seed: several values make a sweep: add -m"):
            compose([override])


# --- the project's own configs -----------------------------------------------------------------------

OPTIONS = sorted(
    str(p.relative_to(CONF).with_suffix(""))
    for p in CONF.glob("*/*.yaml")
    if p.parent.name != "experiment"
)
IN_COMPANY = {"analysis/report": "demonstrations"}
"""Analyses that need another one beside them."""
PRESETS = sorted(p.stem for p in CONF.glob("experiment/*.yaml"))


@pytest.mark.parametrize("option", OPTIONS)
def test_yaml_keys_are_the_dataclass_fields(option):
    group, name = option.split("/")
    choice = f"{group}=[{name}]" if group == "analysis" else f"{group}={name}"
    if option in IN_COMPANY:
        choice = f"analysis=[{IN_COMPANY[option]},{name}]"
        built = experiment(compose([choice])).targets[name]
        config = compose([choice])
        assert set(config.analysis[name]) >= {f.name for f in dataclasses.fields(built)}
        return
    built = build_group(option, required(option))
    raw = OmegaConf.to_container(OmegaConf.load(CONF / f"{option}.yaml"), resolve=False)
    assert set(raw) - {"_target_", "_base_", "defaults"} <= {
        f.name for f in dataclasses.fields(built)
    }
    config = compose([choice])
    composed = next(iter(config.analysis.values())) if group == "analysis" else config[group]
    assert set(composed) - {"_target_", "_base_"} == {f.name for f in dataclasses.fields(built)}
    assert typing.get_type_hints(type(built))


@pytest.mark.parametrize("option", ["agent/imported", "dataset/imported", "dt/imported"])
def test_what_is_left_to_the_user_is_asked_for(option):
    group = option.split("/")[0]
    with pytest.raises(ConfigError, match=rf"^{group}.digest: needs a value$"):
        build_group(option)
    with pytest.raises(ConfigError, match=rf"^{group}.digest: is not the SHA-256"):
        build_group(option, [f"{group}.digest=abc"])


@pytest.mark.parametrize("option", OPTIONS)
def test_every_value_in_yaml_has_a_comment(option):
    lines = (CONF / f"{option}.yaml").read_text().splitlines()
    values = [x.strip() for x in lines if ":" in x and not x.strip().endswith(":")]
    bare = [x for x in values if "#" not in x and not x.startswith(("_target_", "- ", "_base_"))]
    assert not bare


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_builds(preset):
    assert experiment(compose([f"experiment={preset}"])).targets


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["agent.lrr=1"], "no such field"),
        (["agnet.lr=1"], "did you mean 'agent'"),
        (["dt=memory_td"], "did you mean 'memory_dt'"),
        (["agent.seed=abc"], "agent.seed: a whole number is wanted, not 'abc'"),
        (
            ["dataset.mixture=[{temperature: 0, share: 1}]"],
            "dataset.mixture[0].temperature: must be above 0",
        ),
        (["dataset.mixture=[{temperature: 1, share: 0.5}]"], "shares must add up to 1"),
        (["target=nothing"], "one of agent, dataset, dt, analysis"),
        (["seed"], "seed: an override has the form name=value"),
        (["=3"], "=3: an override has the form name=value"),
        ([""], "'': an override has the form name=value"),
        (["agent.lr=é"], "agent.lr=é: cannot be read; quote a value"),
        (["analysis=[]"], "analysis: at least one is wanted"),
        (["tracking.experiment=' '"], "tracking.experiment: needs a name"),
        (["store.path="], "store.path: a path is wanted"),
        (["seed=-1"], "seed: must be 0 or more, not -1"),
        (["dt.model.n_timesteps=20"], "dt.model.n_timesteps: 20 timesteps are known, but an"),
        (["dt.model.n_actions=3"], "dt.model.n_actions: 3, but the environment has 7"),
        (["analysis.calibration.criteria.high=0"], "criteria.high: 0 must be above the low target"),
        (["seed=[1"], "seed=[1"),
        (["seed=0", "agent.lrr=1", "dt.layrs=2"], "dt.layrs: no such field"),
        (["analysis=${oc.select:seed}"], "analysis: no config"),
        (["analysis=[null]"], "analysis: the name of a config, or a list of names"),
        (["analysis=[calibration,3]"], "analysis: the name of a config, or a list of names"),
        (["dt=[[small]]"], "dt: the name of a config, or a list of names"),
        (["experiment=[{a:1}]", "env={a:1}"], "env: the name of a config, or a list of names"),
        (["agent.lrr=1", "agent.seed=abc"], "agent.seed: a whole number is wanted"),
    ],
)
def test_bad_overrides_are_explained(overrides, words):
    with pytest.raises(ConfigError) as error:
        experiment(compose(overrides))
    assert words in str(error.value)


@pytest.mark.parametrize("place", ["store.path", "store.remote", "dataset.root"])
def test_a_path_may_begin_at_home(place, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    more = (
        ["dataset=minari", "dataset.id=mine/b-v0", "target=dataset"] if "dataset" in place else []
    )
    what = experiment(compose([*more, f"{place}='~/mine'"]))
    found = {
        "store.path": what.store.path,
        "store.remote": Remote(what.store.remote).folder if what.store.remote else None,
        "dataset.root": getattr(what.targets.get("dataset"), "root", None),
    }[place]
    assert found == tmp_path / "mine"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("~nobody-of-that-name/x", "~nobody-of-that-name/x: "),
        ("a\0b", "cannot hold a character of code 0"),
        ("", "a path is wanted"),
    ],
)
def test_a_path_that_cannot_be_is_refused(path, message):
    builder = Builder({"store": {"path": path, "remote": None}})
    builder.at("store", StoreConfig)
    ((place, what),) = builder.errors
    assert place == "store.path" and message in what
