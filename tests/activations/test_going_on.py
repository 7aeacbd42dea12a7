"""A run that is killed, or stopped by a full disk, goes on; what cannot be stored is told."""

from __future__ import annotations

import dataclasses
import errno
import os
import re
import resource
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dtx.activations.caching import Reader, cache
from dtx.activations.names import layers_needed, token_hooks, width
from dtx.activations.prefixes import Contents, Rows, rows_of, windows_of
from dtx.activations.spec import Numbers
from dtx.activations.stored import file_of
from dtx.config.build import ConfigError
from dtx.config.compose import compose, experiment
from dtx.dt.model import DecisionTransformerModel, initialise
from dtx.errors import UserError
from dtx.running.runner import run
from dtx.stage import CHECKPOINT
from dtx.store.store import Store, used
from tests.activations.toy import fresh, stage
from tests.dt.toy import Drawn, Recorded, episodes

HOOK = "blocks.1.hook_resid_post"
WIDTHS = {"hook_embed": 16, HOOK: 16}


def small() -> tuple[DecisionTransformerModel, Reader, Rows]:
    """A tiny model, and rows in shards of about 64."""
    data, cfg = episodes(), fresh().model_config()
    model = DecisionTransformerModel(cfg).eval()
    initialise(model, None, 0.3, 0)
    windows = windows_of(data, cfg, None, None, 0)
    held = np.zeros(len(data.start), bool)
    rows = rows_of(Contents(data, cfg), windows, held, tuple("RSA"), 0, shard=64)
    return model, Reader(data, cfg), rows


def files(out: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(out.iterdir()) if p.suffix in (".f16", ".f32")}


def forked(work: Callable[[], None]) -> int:
    """The status of a process that does some work; it has what this one has imported."""
    if (pid := os.fork()) == 0:
        status = 1
        try:
            work()
            status = 0
        except OSError as error:
            Path(error.filename.split(" (")[0]).with_name("told.txt").write_text(error.filename)
            status = error.errno or 1
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_files_after_kills_are_those_without_to_the_bit(tmp_path):
    """SIGKILL after every kind of write: a hook's file, another's, the record of the shard."""
    model, reader, rows = small()
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    killed.mkdir()
    cache(model, reader, rows, WIDTHS, Numbers.float16, whole)

    def until(writes: int) -> None:
        real, left = os.fsync, [writes]

        def fsync(number: int) -> None:
            real(number)
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)

        os.fsync = fsync
        cache(model, reader, rows, WIDTHS, Numbers.float16, killed)

    for writes in range(1, 10):
        assert forked(lambda: until(writes)) == -signal.SIGKILL  # noqa: B023  ended before the next
    assert 0 < (killed / f"{HOOK}.f16").stat().st_size < (whole / f"{HOOK}.f16").stat().st_size
    cache(model, reader, rows, WIDTHS, Numbers.float16, killed)
    assert files(killed) == files(whole)


def test_what_another_plan_left_is_not_gone_on_with(tmp_path):
    model, reader, rows = small()
    cache(model, reader, rows, WIDTHS, Numbers.float16, tmp_path)
    wanted = files(tmp_path)
    record = tmp_path / CHECKPOINT
    record.write_text(record.read_text().replace('"plan": "', '"plan": "0'))
    for path in tmp_path.glob("*.f16"):
        path.write_bytes(b"\1" * 1000)
    cache(model, reader, rows, WIDTHS, Numbers.float16, tmp_path)
    assert files(tmp_path) == wanted
    (tmp_path / f"{HOOK}.f16").unlink()
    cache(model, reader, rows, WIDTHS, Numbers.float16, tmp_path)
    assert files(tmp_path) == wanted
    record.write_text("half a rec")
    cache(model, reader, rows, WIDTHS, Numbers.float16, tmp_path)
    assert files(tmp_path) == wanted


def test_a_full_disk_is_told_with_the_shard_and_gone_on_from(tmp_path):
    """The system refuses to let a file grow beyond some bytes, as it does on a full disk."""
    model, reader, rows = small()

    def until_full() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, resource.RLIM_INFINITY))
        cache(model, reader, rows, WIDTHS, Numbers.float16, tmp_path)

    assert forked(until_full) == errno.EFBIG
    told = (tmp_path / "told.txt").read_text()
    assert told == f"{tmp_path / 'hook_embed'}.f16 (shard 3 of {len(rows.shards) - 1})"
    cache(model, reader, rows, WIDTHS, Numbers.float16, tmp_path)
    (other := tmp_path / "other").mkdir()
    cache(model, reader, rows, WIDTHS, Numbers.float16, other)
    assert files(other) == files(tmp_path)


def test_a_stage_that_was_stopped_goes_on_and_leaves_no_record(store, experiment_of, monkeypatch):
    """The command again after a disk error: the artefact's files are those of a run without one."""
    from dtx.activations import making

    def short(*arguments):
        return rows_of(*arguments, shard=64)

    monkeypatch.setattr(making, "rows_of", short)
    what = experiment_of(stage(other_windows=None, hooks=tuple(WIDTHS)))
    (target,) = what.targets.values()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", _Failing(40))
        with pytest.raises(UserError, match=r"cannot write .*\(shard \d+ of 61\): No space left"):
            run(what)
    assert not store.has(target) and store.begun(target)
    run(what)
    stopped = contents(store.folder(target))
    assert not (store.folder(target) / CHECKPOINT).exists()
    store.invalidate(target.label)
    run(what)
    assert contents(store.folder(target)) == stopped


class _Failing:
    """``os.fsync`` that fails from some call on."""

    def __init__(self, calls: int):
        self.left, self.real = calls, os.fsync

    def __call__(self, number: int) -> None:
        self.left -= 1
        if self.left < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.real(number)


def contents(folder: Path) -> dict[str, bytes]:
    named = {p.name: p.read_bytes() for p in folder.iterdir() if p.suffix in (".f16", ".arrow")}
    assert set(named) == {"tokens.arrow", *(f"{hook}.f16" for hook in WIDTHS)}
    return named


# --- bad input ---------------------------------------------------------------------------------------


def test_a_number_that_float16_does_not_hold_is_told_with_hook_and_row(store, experiment_of):
    huge = fresh(factor=1e6)
    with pytest.raises(UserError) as error:
        run(experiment_of(stage(dt=huge)))
    told = str(error.value)
    assert f"activations: {HOOK}, row " in told and "is more than float16 holds" in told
    assert "use activations.numbers=float32" in told and "episode" in told and "step" in told
    run(experiment_of(what := stage(dt=huge, numbers=Numbers.float32)))
    with used(store):
        assert np.abs(what.load().array(HOOK)).max() > 65504


def test_a_number_that_is_none_is_told_with_step_and_row(tmp_path):
    model, reader, rows = small()
    reader.reward_to_go = reader.reward_to_go.copy()
    place = int(reader.episodes.start[8]) + 10
    reader.reward_to_go[place] = np.nan
    with pytest.raises(UserError) as error:
        cache(model, reader, rows, {"hook_embed": 16}, Numbers.float32, tmp_path)
    told = str(error.value)
    assert "holds a number that is not finite" in told and "hook_embed, row " in told
    assert "(episode 8, step 10)" in told


def refused(*overrides: str) -> str:
    with pytest.raises(ConfigError) as error:
        experiment(compose(["target=activations", *overrides]))
    return str(error.value)


WRONG = {
    "hooks=[blocks.1.hook_resid_pst]": r"hooks: .* no 'blocks.1.*did you mean 'blocks.1.hook_resid",
    "hooks=[blocks.3.hook_resid_post]": r"no 'blocks.3.hook_resid_post'.*did you mean 'blocks.",
    "hooks=[blocks.0.attn.hook_pattern]": r"no 'blocks.0.attn.hook_pattern' of each token",
    "hooks=[hook_embed,hook_embed]": "names hook_embed twice",
    "hooks=[]": "needs at least one",
    "tokens=[]": "needs at least one kind",
    "tokens=[S,S]": "names a kind twice",
    "tokens=[T]": "one of R, S, A",
    "checkpoint=5": r"checkpoint: the model keeps no step 5 \(kept: 0, ",
    "numbers=bfloat16": "one of float16, float32",
    "held_out=1": "is a share",
    "episodes=0": "must be at least 1",
    "other_windows=-1": "must be 0 or more",
    "seed=-1": "must be 0 or more",
}


@pytest.mark.parametrize("override", WRONG)
def test_what_is_wrong_in_the_config_is_told_before_anything_runs(override):
    told = refused(f"activations.{override}")
    assert re.search(WRONG[override], told), told
    assert "activations." in told


def test_a_clone_has_no_tokens_of_reward_to_go(store, experiment_of):
    told = refused("dt.reward_to_go=false", "activations.tokens=[R,S]")
    assert "tokens: the model is a behaviour clone and reads no R tokens; ask for [S, A]" in told
    experiment(compose(["target=activations", "dt.reward_to_go=false"]))


def test_an_imported_models_hooks_and_tokens_are_asked_of_the_model(store, experiment_of):
    drawn = Drawn(dataset=Recorded())  # its sizes are not known before it has run
    for changes, told in (
        ({"hooks": ("blocks.2.hook_resid_post",)}, "did you mean 'blocks.1.hook_resid_post'"),
        ({"hooks": ("blocks.0.attn.hook_pattern",)}, r"is not one vector a token \(its shape is"),
        ({"hooks": ("embed.hook_state",)}, "embed.hook_state is not one vector a token"),
        ({"checkpoint": 5}, r"kept no such step \(kept: none\)"),
    ):
        with pytest.raises(UserError, match=told):
            run(experiment_of(stage(dt=drawn, **changes)))


def test_a_checkpoint_is_a_model_of_its_own(store, experiment_of):
    run(experiment_of(last := stage(), first := stage(checkpoint=0)))
    with used(store):
        assert not np.allclose(last.load().array(HOOK), first.load().array(HOOK))


def test_demonstrations_that_the_model_cannot_read_are_told(store, experiment_of):
    small = fresh().model
    short = fresh(model=dataclasses.replace(small, n_timesteps=10))
    with pytest.raises(UserError, match=r"an episode lasts 20 steps, but the model knows 10"):
        run(experiment_of(stage(dt=short)))
    few = fresh(model=dataclasses.replace(small, n_actions=1))
    with pytest.raises(UserError, match=r"there is an action 1, but the model has 1 actions"):
        run(experiment_of(stage(dt=few)))


def test_a_damaged_artefact_is_told(store, experiment_of):
    run(experiment_of(what := stage()))
    folder = store.folder(what)
    path = file_of(folder, HOOK, Numbers.float16)
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    from dtx.activations.stored import Activations

    with pytest.raises(
        UserError, match=r"f16: is missing or has not the [\d,]+ bytes of .* invalidate"
    ):
        Activations(folder)
    path.write_bytes(content)
    tokens = folder / "tokens.arrow"
    tokens.write_bytes(tokens.read_bytes()[:-200])
    with pytest.raises(UserError, match=r"tokens.arrow: cannot be read"):
        _ = Activations(folder).columns
    about = folder / "activations.json"
    about.write_text('{"rows": "many"}')
    with pytest.raises(UserError, match=r"activations.json"):
        Activations(folder)
    damaged = bytes([content[0] ^ 1]) + content[1:]
    path.write_bytes(damaged)
    with pytest.raises(UserError, match=r"corrupt artefact"):
        Store(store.root).artefact(what)


# --- names -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gated", ["false", "true"])
def test_names_and_widths_are_those_of_the_model(gated):
    cfg = fresh(f"dt.model.gated_mlp={gated}").model_config()
    model = DecisionTransformerModel(cfg).eval()
    initialise(model, None, 0.3, 0)
    reader = Reader(episodes(), cfg)
    windows = windows_of(episodes(), cfg, None, 0, 0)
    context = reader.context(windows[np.zeros(1, np.int64)])
    _, values = model.run_with_cache(context)
    by_token = {
        name: int(np.prod(value.shape[2:]))
        for name, value in values.items()
        if value.shape[1] == context.shape[1] and not name.startswith("embed.")
    }
    named = [n for n in token_hooks(cfg.n_layers) if gated == "true" or "pre_linear" not in n]
    assert by_token == {name: width(name, cfg) for name in named}
    assert list(by_token) == named or set(by_token) == set(named)


def test_only_the_blocks_that_are_needed_run():
    assert layers_needed(("hook_embed",)) == 0
    assert layers_needed(("hook_embed", "blocks.0.attn.hook_z")) == 1
    assert layers_needed(("blocks.2.hook_resid_pre", "blocks.0.hook_mlp_out")) == 3
    assert layers_needed(("blocks.0.hook_mlp_out", "ln_final.hook_normalized")) is None


MORE = (
    "hooks=[hook_embed,blocks.1.hook_resid_post]",
    "numbers=float32",
    "other_windows=null",
    "episodes=2000",
)


@pytest.mark.parametrize("override", MORE)
def test_more_needs_more(override):
    fewer = ["target=activations", "dt=memory_dt_26", "activations.episodes=1000"]
    one, more = (
        experiment(compose(words)).targets["activations"].resources()
        for words in (fewer, [*fewer, f"activations.{override}"])
    )
    assert 1e6 < one.all_disk < more.all_disk
    assert one.all_memory <= more.all_memory and one.seconds < more.seconds
