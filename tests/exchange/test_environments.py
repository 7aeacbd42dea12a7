"""Environments found by record, stage and name."""

from dataclasses import dataclass

import pytest

from dtx.config.compose import build_group
from dtx.env.door_key import DoorKey
from dtx.errors import UserError
from dtx.exchange import environments
from dtx.stage import TARGET

SETTINGS = {"size": 5, "max_steps": None, "backend": "auto"}


@dataclass(frozen=True, kw_only=True)
class OtherDoorKey(DoorKey):
    """The same settings as DoorKey's, another task."""

    @property
    def id(self) -> str:
        return f"Other-{super().id}"


@pytest.fixture
def configs(tmp_path):
    """A user's configs with an environment whose settings are those of DoorKey."""
    (tmp_path / "env").mkdir()
    lines = [f"_target_: {__name__}.OtherDoorKey", "size: 6", "max_steps: null", "backend: auto"]
    (tmp_path / "env" / "other.yaml").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_a_recorded_class_decides_between_configs_with_the_same_settings(configs):
    for kind in (DoorKey, OtherDoorKey):
        named = {TARGET: f"{kind.__module__}.{kind.__qualname__}", **SETTINGS}
        env = environments.of_record(named, None, configs)
        assert type(env) is kind and env.size == 5
    assert environments.of_record({TARGET: "os.system", **SETTINGS}, None, configs) is None


def test_without_a_class_the_id_decides_and_without_both_it_must_be_the_only_one(configs):
    assert environments.of_record(SETTINGS, None, configs) is None
    env = environments.of_record(SETTINGS, "MiniGrid-DoorKey-5x5-v0", configs)
    assert type(env) is DoorKey
    assert environments.of_record(SETTINGS, "MiniGrid-Empty-5x5-v0", configs) is None
    memory = {"size": 7, "max_steps": 50, "backend": "auto"}
    assert environments.of_record(memory, None, configs) == build_group("env/memory")


def test_what_a_stage_says_of_itself_is_found_behind_it():
    calibration = build_group("analysis/calibration", ["env.max_steps=40"])
    env = build_group("env/memory", ["env.max_steps=40"])
    assert environments.of_stage(calibration) == env
    assert environments.of_stage(build_group("pairs/memory", ["env.max_steps=40"])) == env


def test_overrides_choose_the_same_environment_again(configs):
    env = environments.of_config("other env.max_steps=9", configs)
    assert isinstance(env, OtherDoorKey) and env.max_steps == 9
    overrides = environments.overrides_of(env, configs)
    assert overrides == ["env=other", "env.max_steps=9"]
    assert environments.of_config(" ".join(["other", *overrides[1:]]), configs) == env
    assert environments.overrides_of(env, None) == []
    with pytest.raises(UserError, match="no"):
        environments.of_config("memmory", configs)
