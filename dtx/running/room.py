"""Whether what is to run fits on this machine: memory, disk and GPUs, before anything runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

import psutil

from dtx.beside import free_disk
from dtx.config.compose import OnShortage
from dtx.errors import UserError
from dtx.progress import duration
from dtx.resources import Resources, largest
from dtx.stage import Stage
from dtx.text import bytes_in_words, near, say

YEAR = 365 * 86_400.0
_CGROUPS = Path("/sys/fs/cgroup")


def require(todo: Sequence[Stage], store: Path, resources: OnShortage) -> None:
    """Refuse stages that this machine cannot hold.

    Args:
        todo: The stages to run.
        store: Where they write.
        resources: ``ignore``: only tell it.

    Raises:
        UserError: A line for each thing that is short: what needs how much, how much there is, what to lower.
    """
    needed = {stage.label: stage.resources() for stage in todo}
    short = list(shortages(needed, store))
    if short and resources is OnShortage.REFUSE:
        raise UserError(
            "\n".join(f"resources: {line}; to try all the same: resources=ignore" for line in short)
        )
    for line in short:
        say(f"warning: {line}")


def warn_if_long(todo: Sequence[Stage]) -> None:
    """Tell of work that nobody waits for."""
    seconds = sum(stage.resources().seconds for stage in todo)
    if long := too_long(seconds):
        say(f"warning: {duration(seconds)} of work: {long}")


def too_long(seconds: float) -> str:
    """What to say of work that nobody waits for; empty of other work."""
    return "more than a year on one core; lower the sizes" if seconds > YEAR else ""


def shortages(needed: Mapping[str, Resources], store: Path) -> Iterator[str]:
    """Yield a line for memory, disk and GPUs each, if stages need more than there is."""
    if not needed:
        return
    memory, disk = memory_of_machine(), free_disk(store)
    if large := [label for label, needs in needed.items() if needs.all_memory > memory]:
        first, others = needed[large[0]], f" (and {len(large) - 1} more)" * (len(large) > 1)
        yield (
            f"{large[0]}{others}: needs about {bytes_in_words(first.all_memory)} of memory, and this "
            f"machine has {bytes_in_words(memory)}; lower {largest(first.memory)}"
        )
    total = sum(needs.all_disk for needs in needed.values())
    if total > disk:
        most = max(needed, key=lambda label: needed[label].all_disk)
        yield (
            f"{most}: writes about {bytes_in_words(needed[most].all_disk)}, all stages to run together "
            f"{bytes_in_words(total)}, and {bytes_in_words(disk)} are free in {near(store)}; lower "
            f"{largest(needed[most].disk)}, or choose another disk with store.path=FOLDER"
        )
    if gpus := max(needs.gpus for needs in needed.values()):
        import torch

        if (here := torch.cuda.device_count()) < gpus:
            yield (
                f"dt.trainer: {gpus} GPU(s) are wanted and {here} are here; use fewer trainer.devices or "
                "trainer.accelerator=cpu"
            )


def in_words(todo: Sequence[Stage]) -> str:
    """``at most 2.1 GB of memory, 96 MB of disk``; empty if no stage says what it needs."""
    needed = [stage.resources() for stage in todo]
    if not any(needs.memory for needs in needed):
        return ""
    memory = max(needs.all_memory for needs in needed)
    disk = sum(needs.all_disk for needs in needed)
    return f"at most {bytes_in_words(memory)} of memory, {bytes_in_words(disk)} of disk"


def memory_of_machine() -> float:
    """Bytes of memory that a process here may use: the machine's, or less within a container's limit."""
    limits = [float(psutil.virtual_memory().total)]
    for folder in _own_cgroups():
        for name in ("memory.max", "memory.limit_in_bytes"):
            try:
                limits.append(float((folder / name).read_text()))
            except (OSError, ValueError):  # no such file, or "max"
                continue
    return min(limits)


def _own_cgroups() -> Iterator[Path]:
    """The folders of this process's control groups, whose limits all count."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        root = _CGROUPS / controllers
        own = PurePosixPath(path.lstrip("/"))
        yield from (root / part for part in (own, *own.parents))
