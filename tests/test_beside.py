import subprocess
import sys
from pathlib import Path

import pytest

from dtx.beside import BUILDING, building, put
from dtx.errors import UserError

ADVICE = "choose another"


def build(destination: Path, files: dict[str, str], **more) -> bool:
    with building(destination, more.get("root")) as scratch:
        for name, text in files.items():
            (scratch / "new" / name).parent.mkdir(parents=True, exist_ok=True)
            (scratch / "new" / name).write_text(text)
        return put(scratch / "new", destination, ADVICE, **more)


def texts(folder: Path) -> dict[str, str]:
    return {
        p.relative_to(folder).as_posix(): p.read_text() for p in folder.rglob("*") if p.is_file()
    }


def test_a_folder_is_put_and_putting_it_again_changes_nothing(tmp_path):
    files = {"a": "1", "b/c": "2"}
    assert build(tmp_path / "x" / "out", files)
    before = (tmp_path / "x" / "out" / "a").stat()
    assert not build(tmp_path / "x" / "out", files)
    assert (tmp_path / "x" / "out" / "a").stat() == before
    assert texts(tmp_path) == {"x/out/a": "1", "x/out/b/c": "2"}
    assert [p.name for p in (tmp_path / "x").iterdir()] == ["out"]  # nothing beside it


def test_what_is_lacking_is_added_and_what_others_put_there_stays(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine").write_text("notes")
    (out / "a").write_text("1")
    assert build(out, {"a": "1", "b/c": "2"})
    assert texts(out) == {"mine": "notes", "a": "1", "b/c": "2"}


def test_another_content_is_one_line_and_nothing_is_lost(tmp_path):
    out = tmp_path / "out"
    assert build(out, {"a": "1"})
    with pytest.raises(UserError, match="a exists already, with another content: choose another"):
        build(out, {"a": "2", "b": "3"})
    assert texts(tmp_path) == {"out/a": "1"}
    assert build(out, {"a": "2", "b": "3"}, replace=True)
    assert texts(tmp_path) == {"out/a": "2", "out/b": "3"}
    (tmp_path / "file").write_text("1")
    with pytest.raises(UserError, match="is a file: choose another"):
        build(tmp_path / "file", {"a": "2"})


def put_file(path: Path, text: str, **more) -> bool:
    with building(path, more.get("root")) as scratch:
        (scratch / "new").write_text(text)
        return put(scratch / "new", path, ADVICE, **more)


def test_a_file_is_put_in_the_same_way(tmp_path):
    path = tmp_path / "x" / "file"
    assert put_file(path, "1") and not put_file(path, "1")
    with pytest.raises(UserError, match="another content"):
        put_file(path, "2")
    assert path.read_text() == "1"
    assert put_file(path, "2", replace=True) and texts(tmp_path) == {"x/file": "2"}
    path.unlink()
    path.mkdir()
    with pytest.raises(UserError, match="is a folder: choose another"):
        put_file(path, "2")


def test_what_a_killed_process_left_goes_and_what_a_living_one_builds_stays(tmp_path):
    program = (
        "import sys, time\nfrom pathlib import Path\nfrom dtx.beside import building\n"
        "with building(Path('out')) as scratch:\n"
        "    (scratch / 'half').write_text('x')\n    print('ready', flush=True)\n    time.sleep(600)\n"
    )
    command = [sys.executable, "-c", program]
    processes = [
        subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) for _ in "ab"
    ]
    try:
        for process in processes:
            assert process.stdout and process.stdout.readline() == "ready\n"
        assert len(list(tmp_path.glob(f"{BUILDING}*"))) == 2
        processes[0].kill()
        processes[0].wait()
        (tmp_path / f"{BUILDING}0+elsewhere+1+2").mkdir()  # of another host: nobody can tell
        (tmp_path / f"{BUILDING}mine").mkdir()
        build(tmp_path / "out", {"a": "1"})
        left = sorted(p.name for p in tmp_path.glob(f"{BUILDING}*"))
        assert len(left) == 3 and any(f"+{processes[1].pid}+" in name for name in left)
    finally:
        for process in processes:
            process.kill()
            with process:  # closes what it is read by
                pass


@pytest.mark.parametrize("link", ["out", "out/b", "out/b/c", "out/a"])
def test_nothing_is_written_through_a_link(tmp_path, link):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious").write_text("1")
    place = tmp_path / link
    place.parent.mkdir(parents=True, exist_ok=True)
    for target in (elsewhere, elsewhere / "precious", elsewhere / "none"):
        place.symlink_to(target)
        with pytest.raises(UserError, match=f"{place} is a link, and dtx does not write through"):
            build(tmp_path / "out", {"a": "2", "b/c": "2"}, replace=True)
        place.unlink()
    assert texts(elsewhere) == {"precious": "1"}


def test_a_folder_that_the_user_names_may_be_a_link_but_none_below_it(tmp_path):
    (tmp_path / "real").mkdir()
    root = tmp_path / "named"
    root.symlink_to("real")
    assert put_file(root / "group" / "file", "1", root=root)
    assert texts(tmp_path / "real") == {"group/file": "1"}
    (root / "other").symlink_to(tmp_path)
    with pytest.raises(UserError, match="other is a link"):
        put_file(root / "other" / "file", "1", root=root)
    assert not (tmp_path / "file").exists()
