import re

import pytest

from dtx.cli import main
from dtx.config.compose import GROUPS


@pytest.fixture
def mine(tmp_path):
    (tmp_path / "agent").mkdir()
    (tmp_path / "agent" / "mine.yaml").write_text("# Learns nothing. It only walks.\nlr: 0\n")
    (tmp_path / "agent" / "ppo.yaml").write_text("# Would hide dtx's.\n")
    (tmp_path / "analysis").mkdir()
    (tmp_path / "analysis" / "b9.yaml").write_text(
        "# @package analysis.b9\n# What it answers,\n# over two lines.\n\n# not this\n_target_: x\n"
    )
    return tmp_path


def lines(capsys) -> dict[str, str]:
    """Printed lines by their option."""
    words = [line[2:] for line in capsys.readouterr().out.splitlines() if line[2:]]
    return {line.split()[0]: line for line in words}


def test_all_groups_with_the_first_sentence_and_the_defaults_marked(capsys):
    assert main(["ls"]) == 0
    out = capsys.readouterr().out
    heads = [line for line in out.splitlines() if line.endswith(":")]
    assert heads[: len(GROUPS)] == [f"{group}:" for group in GROUPS]
    marked = {line.split()[1] for line in out.splitlines() if line.startswith("* ")} - {"the"}
    assert {"memory", "ppo", "rollouts", "memory_dt", "demonstrations"} <= marked
    assert "  small " in out and "quick looks" in out
    assert "Schulman et al. 2017" in out  # a sentence does not end at every full stop


def test_one_group_with_a_folder_of_ones_own(mine, capsys):
    assert main(["ls", "agent", "--config-dir", str(mine)]) == 0
    out = capsys.readouterr().out
    assert f"  mine Learns nothing. ({mine}/agent/mine.yaml)" in re.sub(r"(?<=mine) +", " ", out)
    assert "It only walks" not in out
    assert f"{mine}/agent/ppo.yaml: not used: dtx's config of this name takes precedence" in out
    assert "experiment:" not in out
    main(["ls", "analysis", "--config-dir", str(mine)])
    assert lines(capsys)["b9"].split(maxsplit=1)[1].startswith("What it answers, over two lines.")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["agnet"], "agnet: no such group of configs (did you mean 'agent'?)"),
        (["--config-dir", "nowhere"], "no folder nowhere (--config-dir)"),
    ],
)
def test_a_mistake_is_one_line(capsys, arguments, words):
    assert main(["ls", *arguments]) == 2
    assert capsys.readouterr().err == f"dtx: error: {words}\n"
