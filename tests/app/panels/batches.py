"""A scene's pair as a stage makes it: written to files and read again."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from dtx.app.moment import Moment
from dtx.app.pairing import declared_pair
from dtx.config.compose import build_group
from dtx.pairs.making import make
from dtx.pairs.pair_set import PairSet
from dtx.report import Report


def pair_set(moment: Moment, folder: Path) -> PairSet:
    """The pairs of the scene's declaration, but for those of the worlds that its donors come from."""
    spec = declared_pair(moment.played, moment.contrast)
    names = [field.name for field in dataclasses.fields(spec)]
    stage = build_group("analysis/activation_patching", ["pairs.dataset=null"]).pairs
    stage = dataclasses.replace(stage, **{name: getattr(spec, name) for name in names})
    make(stage).save(folder, Report(folder))
    pairs = PairSet.read(folder)
    own = pairs.table["variant"] == moment.scene.world
    return dataclasses.replace(pairs, table=pairs.table[own].reset_index(drop=True))
