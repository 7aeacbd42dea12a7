import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from dtx.analysis.dictionaries import DictionariesAnalysis
from dtx.config.compose import build_group
from dtx.store.store import Store, used
from dtx.running.plan import stages
from tests.activations.toy import fresh
from tests.activations.toy import stage as activations
from tests.dictionary.toy import stage as random_dictionary


def analysis(env, **changes) -> DictionariesAnalysis:
    dt = fresh()
    built = build_group("analysis/dictionaries", [])
    few = {"episodes": 12, "control_episodes": 6, "windows": 12, "components": (1, 4)}
    dictionary = random_dictionary(activations=activations(dt=dt), seeds=(0, 1))
    return dataclasses.replace(built, env=env, dt=dt, dictionary=dictionary, **{**few, **changes})


def test_it_runs(env, tmp_path):
    stage = analysis(env)
    store = Store(tmp_path / "store")
    with used(store):
        for each in stages([stage]):
            with store.work(each) as work:
                each.run(work)
                store.commit(each, work, {})
        result = stage.result()
    print(result.summary)
    for c in result.checks: print(c)
    for c in result.claims: print(c)
    print(result.metrics)
    assert 0
