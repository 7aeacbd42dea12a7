"""An imported agent: a published checkpoint, or one that `dtx export` wrote."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from dtx.agent.agent import Agent, AgentStage
from dtx.exchange.published.source import check_digest, copy_beside, verified
from dtx.report import Report, read_metrics, write_atomically
from dtx.stage import RUNTIME


@dataclass(frozen=True, kw_only=True)
class Imported(AgentStage):
    """Map a checkpoint to an agent that acts; conf/agent/imported.yaml explains each field."""

    headline: ClassVar[tuple[str, ...]] = ("imported/*",)

    file: Path | None = field(metadata=RUNTIME)
    digest: str

    def check(self) -> Iterator[tuple[str, str]]:
        """The form of the digest."""
        yield from check_digest(self.digest)

    def run(self, out: Path) -> None:
        """Write weights, and what stood beside them: published.json, or model.json and lineage.json."""
        from dtx.agent.agent_folder import load_agent, sizes

        file = verified(self.file, self.digest, self.label)
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

    def load(self) -> Agent:
        """The agent; it acts as the imported one did."""
        from dtx.agent.agent_folder import load_agent

        return load_agent(self.path)


def _write_published(file: Path, out: Path) -> None:
    """Write the weights of a checkpoint, and the configs that stood in it."""
    import json

    from dtx.exchange.published.checkpoint import read
    from dtx.exchange.published.convert_agent import convert, save

    checkpoint = read(file)
    save(convert(checkpoint)[0], out)
    known = {"file": checkpoint.file, **checkpoint.configs}
    write_atomically(out / "published.json", json.dumps(known, indent=1) + "\n")
