"""A scene as a pairs file and a command: run, they give the panel's numbers."""

import shlex

import numpy as np
import pytest

import dtx
from dtx.app.address import parse
from dtx.app.asked import Explorer
from dtx.app.models import Catalogue, Loader
from dtx.app.scene import OpenPanel
from dtx.cli import main
from dtx.errors import UserError
from dtx.store.inventory import artefacts
from dtx.store.store import Store

FLIP = "set_type:select.role=instruction:to.ball=key:to.key=ball"
SWAP = "exchange:a.role=target_left:b.role=target_right"
ZERO = "set_rtg:value=0:scope=all"
DECOY = "obs_add:frame=first:view=0,5:type=complement:ood=true"
SCENES = [
    f"#1&w=key/left&a=ffff&r=.9&e={FLIP}&p=patching",
    f"#1&w=ball/right&a=ffff&r=.9&e={SWAP}&p=patching:node=z:direction=noise",
    f"#1&w=key/right&a=ffffl&r=.9,2:.3&e={ZERO}&t=5&p=patching:node=mlp_out",
    f"#1&w=ball/left&a=ffff&r=.85&e={DECOY};{FLIP}&c=right-left&p=patching:node=attn_out",
    f"#1&w=key/left&a=lrffff&r=.9&e={FLIP}&p=lens~patching:node=resid_mid",
]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store with the planted model, made by the command line as a user makes it."""
    folder = tmp_path_factory.mktemp("texts")
    command = ["run", "dt=planted", "target=dt", f"store.path={folder / 'store'}"]
    assert main([*command, "tracking.enabled=false"]) == 0
    return Store(folder / "store")


@pytest.mark.parametrize(
    "address", [SCENES[0], *(pytest.param(s, marks=pytest.mark.slow) for s in SCENES[1:])]
)
def test_the_files_and_the_command_of_a_scene_give_its_panel(address, store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    explorer = Explorer(Catalogue(store))
    scene = parse(address)[0].json()
    (conf := tmp_path / "conf" / "pairs").mkdir(parents=True)
    (conf / "scene.yaml").write_text(explorer.text(scene, "yaml"))
    lines = explorer.text(scene, "command").splitlines()
    (command,) = [line for line in lines if not line.startswith("#")]
    assert not any("another model" in line or "no recorded" in line for line in lines), lines
    words = shlex.split(command)
    assert words[:2] == ["dtx", "run"]
    where = [f"store.path={store.root}", "tracking.enabled=false", "pairs.dataset=null"]
    assert main([*words[1:], *where]) == 0

    opened = parse(address)[0].panels[-1]
    data = _last(explorer, scene, opened)
    table = dtx.load("analysis", _newest(store), store=store).tables["patches"]
    mine = table[(table.kind == "edit") & (table.variant == scene["world"])]
    assert len(mine) == data["rho"].size
    for row in mine.itertuples():
        place = data["rows"].index(row.name), row.position
        np.testing.assert_allclose(data["rho"][place], row.rho, atol=1e-6, equal_nan=True)
        np.testing.assert_allclose(data["change"][place], row.change, atol=1e-6)


def _last(explorer, scene, opened: OpenPanel):
    *_, (share, answer) = explorer.long(scene, opened, Loader(), lambda: False)
    assert share == 1
    return answer["panels"][opened.name][0]["data"]


def _newest(store) -> str:
    """The label of the analysis that has just run."""
    return next(
        a.label for a in artefacts(store.root) if a.label.startswith("activation_patching-")
    )


def test_what_has_no_pairs_file_says_so(store):
    explorer = Explorer(Catalogue(store))
    plain = parse("#1&w=key/left&a=ff")[0].json()
    with pytest.raises(UserError, match="nothing is edited"):
        explorer.text(plain, "yaml")
    lens = parse("#1&w=key/left&a=ff&p=lens")[0].json()
    with pytest.raises(UserError, match=r"lens: no analysis of a pairs file .*dtx\.analysis\.lens"):
        explorer.text(lens, "command")
    with pytest.raises(UserError, match="no such words"):
        explorer.text(plain, "poem")
    assert explorer.text(plain, "address").startswith("#1&m=")
