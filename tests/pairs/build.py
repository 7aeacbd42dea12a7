"""Pairs built from changed configs, and a tiny model to read them."""

from __future__ import annotations

import copy
import dataclasses
import functools
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from dtx.config.build import Builder, ConfigError
from dtx.config.compose import build_group, compose
from dtx.dt.model import DecisionTransformerModel, initialise
from dtx.pairs.declared import Declared
from dtx.pairs.making import make
from dtx.pairs.pair_set import PairSet
from dtx.report import Report
from tests.dt.toy import TINY

FEW = {"dataset": None, "source__variants": 3, "source__reward_to_go": [0.9]}


@functools.cache
def composed(option: str, *overrides: str) -> dict:
    return OmegaConf.to_container(compose([f"pairs={option}", *overrides]))


def declared(option: str, *overrides: str, edits: str = "", **changes) -> Declared:
    """Build pairs; ``edits`` is YAML that replaces the config's, ``changes`` are values by dotted name."""
    raw = copy.deepcopy(composed(option, *overrides))
    if edits:
        raw["pairs"]["edits"] = yaml.safe_load(edits)
    for name, value in changes.items():
        *parents, leaf = name.split("__")
        functools.reduce(dict.__getitem__, parents, raw["pairs"])[leaf] = value
    builder = Builder(raw)
    built = builder.at("pairs", Declared)
    builder.finish()
    return built


def made(stage: Declared, out: Path) -> PairSet:
    """The pairs without their pictures, which take the most time."""
    out.mkdir(exist_ok=True)
    make(stage).save(out, Report(out))
    return PairSet.read(out)


def model(**changes) -> DecisionTransformerModel:
    stage = build_group("dt/memory_dt", [*TINY, "dt.windows.context=9", "dt.model.n_ctx=26"])
    cfg = dataclasses.replace(stage.model_config(), **changes)
    network = DecisionTransformerModel(cfg)
    initialise(network, None, 0.5, 0)
    return network.eval()


def errors_of(option: str, *overrides: str, **changes) -> dict[str, str]:
    with pytest.raises(ConfigError) as error:
        declared(option, *overrides, **changes)
    return dict(error.value.errors)
