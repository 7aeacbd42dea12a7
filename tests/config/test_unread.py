"""Nothing that a user gives is passed over in silence."""

import pytest

from dtx.cli import main
from dtx.config.build import ConfigError
from dtx.config.compose import CONF, compose, experiment

NONE_READS = "nothing reads it"


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A working folder with configs of one's own; gives a function that writes one."""
    monkeypatch.chdir(tmp_path)

    def write(place: str, text: str | bytes) -> None:
        path = tmp_path / "conf" / f"{place}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())

    return write


def planned(*words: str, capsys) -> tuple[int, str]:
    """Exit status and what ``dtx plan`` says, which is one line for each error."""
    status = main(["plan", "--config-dir", "conf", *words])
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    return status, said.err


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("seeds: 3", "seeds"),
        ("agnet: {frames: 1000}", "agnet"),
        ("stores: {path: there}", "stores"),
        ("onerror: stop", "onerror"),
        ("Seed: 3", "Seed"),
        ("analyses: [lens]", "analyses"),
    ],
)
def test_a_misspelt_name_at_the_top_of_a_preset_is_refused(own, capsys, text, name):
    own("experiment/try", f"# @package _global_\n{text}\n")
    status, said = planned("experiment=try", capsys=capsys)
    assert status == 2 and f"{name}: {NONE_READS}" in said and len(said.splitlines()) == 1


@pytest.mark.parametrize(
    "override", ["+dts.steps=7", "+seeds=3", "++trackin.enabled=false", "+a.b.c=1"]
)
def test_a_misspelt_name_of_an_override_is_refused(override):
    with pytest.raises(ConfigError, match=NONE_READS):
        experiment(compose([override]))


def test_a_name_of_ones_own_that_a_value_refers_to_is_read():
    assert experiment(compose(["+width=32", "dt.model.d_model=${width}"])).raw["width"] == 32
    preset = experiment(compose(["+grid.width=64", "dt.model.d_model=${grid.width}"]))
    assert preset.targets["calibration"].dt.model.d_model == 64


@pytest.mark.parametrize(
    ("overrides", "place"),
    [
        (["target=dataset", "dt.steps=183.6"], "dt.steps"),
        (["target=dataset", "dt._target_=os.system"], "dt._target_"),
        (["target=agent", "dataset.episodes=many"], "dataset.episodes"),
        (["target=agent", "analysis.calibration.episodes=x"], "analysis.calibration.episodes"),
        (["target=dt", "analysis.calibration._target_=os.getcwd"], "analysis.calibration._target_"),
        (["pairs._target_=subprocess.run"], "pairs._target_"),
        (["target=dataset", "dt.windows.padding=both"], "dt.windows.padding"),
    ],
)
def test_what_the_target_does_not_reach_is_built_all_the_same(overrides, place):
    with pytest.raises(ConfigError) as error:
        experiment(compose(overrides))
    assert [name for name, _ in error.value.errors] == [place]


@pytest.mark.parametrize(
    "overrides",
    [
        [
            "target=agent",
            "env=minigrid",
            "env.id=MiniGrid-FourRooms-v0",
        ],  # longer than the model knows
        ["target=dataset", "env=door_key"],  # without what the default pairs edit
        ["target=dataset", "env.max_steps=80"],
    ],
)
def test_what_the_target_does_not_reach_need_not_fit(overrides):
    assert experiment(compose(overrides)).targets


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("dt/small", "dt=small"),
        ("agent/ppo", ""),  # a default of dtx's
        ("analysis/calibration", ""),
        ("experiment/quickstart", "experiment=quickstart"),
    ],
)
def test_a_config_with_the_name_of_one_of_dtxs_is_refused_where_it_is_chosen(
    own, capsys, place, words
):
    own(place, (CONF / f"{place}.yaml").read_text() + "# changed\n")
    status, said = planned(*words.split(), capsys=capsys)
    assert status == 2 and f"conf/{place}.yaml: dtx's own is read" in said
    assert planned(
        "target=agent", "agent=ppo", "dt=memory_dt_26", "analysis=[lens]", capsys=capsys
    )[0] == (2 if place == "agent/ppo" else 0)
    own(place, (CONF / f"{place}.yaml").read_text())
    assert planned(*words.split(), capsys=capsys)[0] == 0  # a copy: the same is read


def test_a_config_yaml_of_ones_own_is_not_passed_over(own, capsys):
    own("config", "seed: 7\n")
    status, said = planned("target=agent", capsys=capsys)
    assert status == 2 and "config.yaml: is not read" in said


@pytest.mark.parametrize(
    "override",
    ["hydra.nothing=x", "hydra=x", "hydra/help=x", "+hydra.run.more=x"],
)
def test_settings_of_hydras_that_are_not_read_are_refused(override):
    with pytest.raises(ConfigError, match="dtx does not read"):
        compose([override])


def test_a_search_path_is_read_beside_ones_own_configs(own, tmp_path, capsys):
    own("dt/mine", (CONF / "dt" / "small.yaml").read_text())
    (tmp_path / "conf").rename(tmp_path / "other")
    own("agent/mine", (CONF / "agent" / "ppo.yaml").read_text())
    path = f"hydra.searchpath=[file://{tmp_path / 'other'}]"
    assert planned("dt=mine", "agent=mine", "target=dt", path, capsys=capsys)[0] == 0
    assert planned("-m", "dt=mine,small", "agent=mine", "target=dt", path, capsys=capsys)[0] == 0


@pytest.mark.parametrize(
    "swept",
    ["store.path=a,b", "tracking.enabled=true,false", "on_error=stop,continue", "store.remote=x,y"],
)
def test_what_is_the_same_for_all_jobs_is_not_swept(swept, capsys):
    assert main(["plan", "-m", swept]) == 2
    assert "is the same for all jobs of a sweep" in capsys.readouterr().err


@pytest.mark.parametrize("swept", ["dt.seed=range(5,5)", "dt=glob(zzz*)", "dt.seed=range(3,1)"])
def test_a_sweep_over_nothing_is_told(swept, capsys):
    assert main(["plan", "-m", swept, "target=dt"]) == 2
    assert "no job: the sweep is over nothing" in capsys.readouterr().err


FIELD = "_target_: dtx.dt.decision_transformer.DecisionTransformer\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (FIELD + "\tsteps: 3\n", "line 2: found character"),
        ("steps: 1\nsteps: 2\n", "line 2: found duplicate key"),
        ("a: [1, 2\n", "line "),
        ("a: b: c\n", "line 1"),
        ("", "dt: "),
        ("- 1\n- 2\n", ""),
        ("just text\n", ""),
        (b"steps: gr\xf6\xdfe\n", "UTF-8"),
        (b"\x00\x01\x02", ""),
        ("a: ${b\n", ""),
        ("a: *nobody\n", "line 1"),
        ("a: !!python/object/apply:os.system ['true']\n", "line 1"),
        ("{" * 3000, ""),
    ],
)
def test_a_damaged_config_is_one_line(own, capsys, text, message):
    own("dt/mine", text)
    status, said = planned("dt=mine", "target=dt", capsys=capsys)
    assert status == 2 and message in said
    assert all(len(line) < 450 for line in said.splitlines()) and len(said.splitlines()) < 30


@pytest.mark.parametrize(
    "name", ["a=b", "run[1]", "a b", "a,b", "${x}", "{x}", "it's", 'say "x"', "#h", "ü", "a:b"]
)
def test_configs_of_ones_own_are_found_in_a_folder_of_any_name(tmp_path, monkeypatch, name):
    folder = tmp_path / name / "conf"
    (folder / "dt").mkdir(parents=True)
    (folder / "dt" / "mine.yaml").write_text((CONF / "dt" / "small.yaml").read_text())
    monkeypatch.chdir(tmp_path / name)
    assert main(["plan", "dt=mine", "target=dt", "--config-dir", "conf"]) == 0
    assert main(["plan", "-m", "dt=mine,small", "target=dt", "--config-dir", "conf"]) == 0
