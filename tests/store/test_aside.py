import pytest

from dtx.cli import main
from dtx.errors import UserError
from dtx.running.runner import run
from dtx.store.aside import INVALID, invalidate
from dtx.store.needs import protected
from tests.toys import Number, Sum

ONE, TWO = Number(value=1), Number(value=2)
TOTAL = Sum(left=ONE, right=TWO)


@pytest.fixture
def full(store, experiment_of):
    """A store with three artefacts, unfinished work, a folder that is not dtx's, and one beside the store."""
    run(experiment_of(TOTAL))
    with store.work(Number(value=3)) as work:
        (work / "half.txt").write_text("half")
    for place in (store.root / "notes", store.root.parent / "above", store.root / "toys-mine"):
        place.mkdir()
        (place / "precious.txt").write_text("somebody's")
    return store


def content(root) -> set[str]:
    return {p.relative_to(root).as_posix() for p in root.rglob("*") if p.suffix != ".lock"}


@pytest.mark.parametrize(
    "text",
    [
        "../above",
        "../../above",
        "**/",
        "*",
        "?",
        "[a-z]",
        ".",
        "./toys",
        "/",
        ".work/toys",
        ".locks",
        "notes",
        "toys-mine",
        "TOYS",
        "toys-\0",
        "toys-" + "0" * 400,
    ],
)
def test_what_begins_no_label_moves_nothing(full, text):
    before = content(full.root.parent)
    assert invalidate(full.root, text) == []
    assert content(full.root.parent) == before


def test_a_beginning_takes_artefacts_and_unfinished_work_and_nothing_else(full):
    moved = invalidate(full.root, "toys-")
    assert len(moved) == 4 and all(p.parent == full.root / INVALID for p in moved)
    assert (full.root / "toys-mine" / "precious.txt").exists()
    assert (full.root / "notes" / "precious.txt").exists()
    assert not full.has(ONE) and not full.begun(Number(value=3))


def test_what_a_process_works_on_or_needs_is_not_moved_nor_anything_with_it(full):
    before = content(full.root.parent)
    with (
        full.lock(TWO),
        pytest.raises(UserError, match=f"{TWO.label}: process .* is working on it"),
    ):
        invalidate(full.root, "toys-")
    with (
        protected(full.root, [ONE.label]),
        pytest.raises(UserError, match=f"{ONE.label}: .* needs it; .* Nothing was set aside"),
    ):
        invalidate(full.root, "toys-")
    assert {p for p in content(full.root.parent) if ".needed" not in p} == {
        p for p in before if ".needed" not in p
    }
    assert len(invalidate(full.root, "toys-")) == 4


@pytest.mark.parametrize("text", ["", ".", "..", "../above", "*"])
def test_the_command_says_that_nothing_begins_so(full, text, capsys):
    before = content(full.root.parent)
    assert main(["invalidate", text, "--store", str(full.root)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert content(full.root.parent) == before


@pytest.mark.parametrize("name", [".invalid", ".work"])
def test_nothing_is_moved_or_written_through_a_link(full, tmp_path_factory, name):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    if (full.root / name).exists():
        (full.root / name).rename(full.root / "kept")
    (full.root / name).symlink_to(elsewhere)
    with pytest.raises(UserError, match=rf"{name} is a link"):
        if name == ".work":
            run_one(full)
        else:
            invalidate(full.root, ONE.label)
    assert list(elsewhere.iterdir()) == []


def run_one(store) -> None:
    with store.work(Number(value=9)) as work:
        (work / "value.txt").write_text("9")


@pytest.mark.parametrize("name", ["value.txt", "folder/value.txt", "folder"])
def test_a_link_in_unfinished_work_is_not_written_through(full, tmp_path_factory, name):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    place = full.root / ".work" / Number(value=9).label / name
    place.parent.mkdir(parents=True)
    place.symlink_to(elsewhere / "precious")
    with pytest.raises(UserError, match=f"{name} is a link; .* remove the link"):
        run_one(full)
    assert list(elsewhere.iterdir()) == []


def test_a_stage_that_leaves_a_link_is_not_committed(full, tmp_path):
    (tmp_path / "secret").write_text("1")
    stage = Number(value=9)
    with full.work(stage) as work:
        (work / "value.txt").symlink_to(tmp_path / "secret")
        with pytest.raises(UserError, match=r"value\.txt is a link"):
            full.commit(stage, work, {})
    assert not full.has(stage)


@pytest.mark.parametrize("name", ["value.txt", "more", "done.json", "."])
def test_a_link_in_an_artefact_is_damage_and_invalidating_it_is_the_remedy(full, tmp_path, name):
    real, path = tmp_path / "real", full.folder(ONE) / name
    path.rename(real) if path.exists() else real.write_text("1")
    (full.folder(ONE) if name == "." else path).symlink_to(real)
    before = content(real) if real.is_dir() else real.read_text()
    with pytest.raises(UserError, match=f"corrupt artefact: .*link.*`dtx invalidate {ONE.label}`"):
        full.artefact(ONE)
    assert len(invalidate(full.root, ONE.label)) == 1
    assert not full.has(ONE)
    assert (content(real) if real.is_dir() else real.read_text()) == before
