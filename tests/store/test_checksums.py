import hashlib

import pytest

from dtx.store.checksums import check_record, files_in

SUM = hashlib.sha256().hexdigest()
WHOLE = {"files": {"model.json": [3, SUM], "tables/a.parquet": [0, SUM], "größe.txt": [1, SUM]}}


def test_files_are_listed_with_size_and_checksum():
    assert files_in(WHOLE)["tables/a.parquet"] == (0, SUM)


@pytest.mark.parametrize("name", ["/etc/passwd", "../a", "a/../../b", "a/../b", "..", ".", ""])
def test_a_name_outside_the_artefact_is_refused(name):
    with pytest.raises(ValueError, match="is outside the artefact"):
        files_in({"files": {name: [3, SUM]}})


@pytest.mark.parametrize("name", ["a//b", "./a", "a/./b", "a/", "done.json/."])
def test_a_second_way_to_write_a_name_is_refused(name):
    with pytest.raises(ValueError, match="is another way to write"):
        files_in({"files": {name: [3, SUM]}})


@pytest.mark.parametrize("name", ["done.json", "DONE.json", "Done.JSON", "done.json/a"])
def test_the_record_is_not_one_of_its_files(name):
    with pytest.raises(ValueError, match=r"it lists done\.json itself"):
        files_in({"files": {name: [3, SUM]}})


def test_a_file_is_not_a_folder_as_well():
    with pytest.raises(ValueError, match="'a' is a file and a folder"):
        files_in({"files": {"a": [3, SUM], "a/b/c": [3, SUM]}})


@pytest.mark.parametrize(
    "entry",
    [
        *([size, SUM] for size in (-1, 2**70, 1.5, True, None, "3", [3])),
        *([3, digest] for digest in ("", SUM[:-1], SUM.upper().replace("E", "G"), None, 7)),
        *([], [3], [3, SUM, 1], 3, None, {"size": 3}),
    ],
)
def test_an_entry_that_is_no_size_and_checksum_is_refused(entry):
    with pytest.raises(ValueError, match="has no size and checksum"):
        files_in({"files": {"a": entry}})


@pytest.mark.parametrize("name", ["a\nb", "a\x1b[2Jb", "a\u202eb", "a\0"])
def test_a_name_that_commands_a_terminal_is_refused(name):
    with pytest.raises(ValueError, match="is outside the artefact"):
        files_in({"files": {name: [3, SUM]}})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("inputs", ["a-1"]),
        ("inputs", {"dt": 3}),
        ("inputs", {"dt": "../../etc"}),
        ("inputs", {"dt": "a\x1b[2J"}),
        ("seconds", "long"),
        ("finished", 7),
        ("config", None),
        ("mlflow", []),
        ("git", "main"),
        ("summary", {"a": 1}),
        ("records", {"a-1": {"seconds": "long"}}),
    ],
)
def test_a_field_of_another_kind_is_named(field, value):
    with pytest.raises(ValueError, match=field.replace("records", "seconds")):
        check_record({**WHOLE, field: value})


@pytest.mark.parametrize("record", [[], "text", None, 3])
def test_what_is_no_record_is_refused(record):
    with pytest.raises(ValueError, match="no record"):
        check_record(record)
