"""A published, or handed over, agent, as `dtx import` puts it into the store."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dtx.agent.agent import AgentStage
from dtx.exchange.published.source import check_digest, copy_beside, found
from dtx.report import Report, read_metrics, write_atomically
from dtx.stage import RUNTIME


@dataclass(frozen=True, kw_only=True)
class Imported(AgentStage):
    """Maps the checkpoint to an agent that acts; conf/agent/imported.yaml says what each field means."""

    file: Path | None = field(metadata=RUNTIME)
    digest: str

    def check(self) -> Iterator[tuple[str, str]]:
        """A digest is one."""
        yield from check_digest(self.digest)

    def run(self, out: Path) -> None:
        """Writes weights, and what stood beside them: published.json, or model.json and lineage.json."""
        from dtx.agent.provider import load_agent, sizes

        file = found(self, self.file, self.digest)
        if file.is_dir():
            for name in ("weights.safetensors", "model.json"):
                if (file / name).is_file():
                    shutil.copyfile(file / name, out / name)
            copy_beside(file, out)
        else:
            _write_published(file, out)
        # Read back before it is committed: a damaged folder must not get into the store.
        Report(out).headline({f"imported/{k}": v for k, v in sizes(load_agent(out)).items()})

    def summary(self) -> str:
        """What kind of agent it is."""
        n = {k.removeprefix("imported/"): int(v or 0) for k, v in read_metrics(self.path).items()}
        memory = f"a memory of {n['memory_size']} numbers" if n["recurrent"] else "no memory"
        return f"imported: agent with {memory}, {n['n_actions']} actions; {n['parameters']:,} parameters"

    def load(self) -> Any:
        """The agent, which acts as the one that was imported."""
        from dtx.agent.provider import load_agent

        return load_agent(self.path)


def _write_published(file: Path, out: Path) -> None:
    """Weights of a checkpoint, and the configs that stood in it."""
    import json

    from dtx.exchange.published.agent import convert, save
    from dtx.exchange.published.checkpoint import read

    checkpoint = read(file)
    save(convert(checkpoint)[0], out)
    known = {"file": checkpoint.file, **checkpoint.configs}
    write_atomically(out / "published.json", json.dumps(known, indent=1) + "\n")
