"""A run's folder: made once, with what Hydra's users look for, and no passwords."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from dtx.config.build import ConfigError
from dtx.config.compose import compose, hydra_configs
from dtx.running.output import in_yaml, log_name, made, setting, write_config


def test_a_new_folder_is_made_by_one_of_many_only(tmp_path):
    folder = tmp_path / "2026" / "now"
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: made(folder, new=True), range(8)))
    assert {p.name for p in found} == {"now", *(f"now-{n}" for n in range(2, 9))}
    assert made(folder, new=False) == made(folder, new=False) == folder


def test_yaml_keeps_references_and_hides_what_lets_somebody_in():
    config = {
        "seed": 3,
        "twice": "${seed}",
        "needed": "???",
        "places": ["s3://key:hunter2@host/bucket", {"uri": "http://host/?token=hunter2"}],
    }
    text = in_yaml(OmegaConf.create(config))
    assert "hunter2" not in text
    again = OmegaConf.to_container(OmegaConf.create(text))
    assert again["places"] == ["s3://***@host/bucket", {"uri": "http://host/?token=***"}]
    assert {**config, "places": None} == {**again, "places": None}


def test_settings_are_resolved_and_hydras_own_config_is_left_as_it_was():
    before = HydraConfig.instance().cfg  # of another command in this process, or none
    config = compose(["hydra.run.dir=at/${hydra:job.name}/${seed}", "seed=7"], with_hydra=True)
    assert setting(config, "hydra.run.dir") == "at/dtx/7"
    assert HydraConfig.instance().cfg is before and log_name(config) == "dtx.log"
    for wrong in ("hydra.run.dir=${nothing}", "hydra.run.dir=''", "hydra.run.dir=null"):
        with pytest.raises(ConfigError, match=r"hydra\.run\.dir"):
            setting(compose([wrong], with_hydra=True), "hydra.run.dir")


def test_changed_settings_are_written_and_the_config_given_is_not_changed(tmp_path):
    config = compose(with_hydra=True)
    own = OmegaConf.masked_copy(config, ["seed"])
    with hydra_configs():
        write_config(tmp_path, own, config.hydra, {"job.num": 4, "output_subdir": "mine"})
    assert {p.name for p in (tmp_path / "mine").iterdir()} == {
        *("config.yaml", "hydra.yaml", "overrides.yaml")
    }
    written = OmegaConf.load(tmp_path / "mine" / "hydra.yaml").hydra
    assert written.job.num == 4 and written.runtime.output_dir == str(tmp_path)
    assert config.hydra.output_subdir == ".hydra"
    write_config(tmp_path / "none", own, config.hydra, {"output_subdir": None})
    assert not (tmp_path / "none").exists()
