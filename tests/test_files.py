import os

import pytest

from dtx import files
from dtx.errors import UserError
from dtx.files import DamagedFileError, link_in, parse_json, read_json, refuse_links


def test_what_is_written_is_read(tmp_path):
    (tmp_path / "a.json").write_text('{"größe": [1, null, 0.5]}')
    assert read_json(tmp_path / "a.json") == {"größe": [1, None, 0.5]}
    assert parse_json(b"[1]", "a") == [1]


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "is not JSON"),
        (b"{half", "is not JSON"),
        (b"\xff\xfe\x00", "is not JSON"),
        (b"gr\xf6\xdfe", "is not JSON"),
        (b"\0" * 100, "is not JSON"),
        (b"[" * 200_000, "is nested too deeply"),
        (b'{"a":' * 200_000, "is nested too deeply"),
        (b"1" * 10_000, "is not JSON"),  # a number that Python does not convert
    ],
)
def test_damage_is_one_line_that_names_the_file(tmp_path, content, what):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(DamagedFileError, match=f"a.json: {what}") as error:
        read_json(path)
    assert isinstance(error.value, UserError) and isinstance(error.value, ValueError)
    assert len(str(error.value).splitlines()) == 1


def test_a_pipe_and_a_device_are_no_files(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path):
        with pytest.raises(DamagedFileError, match="is not a file"):
            read_json(path)


def test_a_file_that_is_too_large_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MOST_BYTES", 10)
    (tmp_path / "a.json").write_text("[1, 2, 3, 4, 5]")
    with pytest.raises(DamagedFileError, match="15 bytes are more than any such file has"):
        read_json(tmp_path / "a.json")


def test_a_file_that_is_not_there_is_not_damaged(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "none.json")


def test_links_are_found_wherever_they_are(tmp_path):
    (tmp_path / "handed" / "figures").mkdir(parents=True)
    (tmp_path / "handed" / "a").write_text("1")
    refuse_links(tmp_path / "handed")
    for place, target in (
        ("handed/b", "/etc/passwd"),
        ("handed/b", "none"),
        ("handed/b", "a"),
        ("handed/figures/b", "/etc"),
        ("handed/b", "figures"),
        ("link", "handed"),
    ):
        (tmp_path / place).symlink_to(target)
        top = tmp_path / place.split("/")[0]
        assert link_in(top) == tmp_path / place
        with pytest.raises(UserError, match=f"{place} is a link"):
            refuse_links(top)
        (tmp_path / place).unlink()
