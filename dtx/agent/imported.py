"""A published agent, as `dtx import` puts it into the store."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from dtx.published.source import check_digest, found
from dtx.report import Report, read_headline, write_atomically
from dtx.stage import RUNTIME, Stage

if TYPE_CHECKING:
    from dtx.agent.published import PublishedAgent


@dataclass(frozen=True, kw_only=True)
class Imported(Stage):
    """Maps the checkpoint to an agent that acts; conf/agent/imported.yaml says what each field means."""

    file: Path | None = field(metadata=RUNTIME)
    digest: str

    def check(self) -> Iterator[tuple[str, str]]:
        """A digest is one."""
        yield from check_digest(self.digest)

    def run(self, out: Path) -> None:
        """Writes weights, and published.json with the configs that stood in the file."""
        import json

        from dtx.agent.published import convert, save
        from dtx.published.checkpoint import read

        checkpoint = read(found(self, self.file, self.digest))
        agent, _ = convert(checkpoint)
        save(agent, out)
        known = {"file": checkpoint.file, **checkpoint.configs}
        write_atomically(out / "published.json", json.dumps(known, indent=1) + "\n")
        Report(out).headline(
            {
                "imported/recurrent": float(agent.memory_size > 0),
                "imported/memory_size": agent.memory_size,
                "imported/n_actions": agent.n_actions,
                "imported/parameters": sum(b.numel() for b in agent.buffers()),
            }
        )

    def summary(self) -> str:
        """What kind of agent it is."""
        n = {k.removeprefix("imported/"): int(v or 0) for k, v in read_headline(self.path).items()}
        memory = f"a memory of {n['memory_size']} numbers" if n["recurrent"] else "no memory"
        return f"imported: agent with {memory}, {n['n_actions']} actions; {n['parameters']:,} parameters"

    def load(self) -> PublishedAgent:
        """The agent, which acts as the published one."""
        from dtx.agent.published import load

        return load(self.path)
