"""A published, or handed over, Decision Transformer, as `dtx import` puts it into the store."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from dtx.dt.model_stage import ModelStage
from dtx.exchange.published.source import check_digest, copy_beside, verified
from dtx.report import Report, read_metrics, write_atomically
from dtx.stage import RUNTIME

if TYPE_CHECKING:
    from dtx.dt.model import DecisionTransformerModel


@dataclass(frozen=True, kw_only=True)
class Imported(ModelStage):
    """Maps the checkpoint to our model; conf/dt/imported.yaml says what each field means."""

    headline: ClassVar[tuple[str, ...]] = (
        "imported/parameters",
        "imported/n_layers",
        "imported/d_model",
    )

    file: Path | None = field(metadata=RUNTIME)
    digest: str

    def check(self) -> Iterator[tuple[str, str]]:
        """A digest is one."""
        yield from check_digest(self.digest)

    def run(self, out: Path) -> None:
        """Writes weights, model.json, and what stood beside them: published.json, or lineage.json."""
        from dtx.dt.model import load, save

        file = verified(self.file, self.digest, self.label)
        if file.is_dir():
            model = load(file)
            copy_beside(file, out)
        else:
            model = _published(file, out)
        save(model, out)
        cfg = model.cfg
        Report(out).headline(
            {
                "imported/n_layers": cfg.n_layers,
                "imported/d_model": cfg.d_model,
                "imported/n_heads": cfg.n_heads,
                "imported/n_steps": cfg.n_steps,
                "imported/n_actions": cfg.n_actions,
                "imported/reward_to_go": float(cfg.reward_to_go),
                "imported/parameters": sum(p.numel() for p in model.parameters()),
            }
        )

    def summary(self) -> str:
        """What kind of model it is."""
        n = {k.removeprefix("imported/"): int(v or 0) for k, v in read_metrics(self.path).items()}
        kind = "Decision Transformer" if n["reward_to_go"] else "behaviour clone"
        return (
            f"imported: {kind}, {n['n_layers']} layers, {n['n_heads']} heads, width {n['d_model']}, "
            f"windows of {n['n_steps']} steps, {n['n_actions']} actions; {n['parameters']:,} parameters"
        )


def _published(file: Path, out: Path) -> DecisionTransformerModel:
    """The model of a checkpoint; writes published.json with the configs that stood in it."""
    import json

    from dtx.exchange.published.checkpoint import read
    from dtx.exchange.published.convert_model import convert

    checkpoint = read(file)
    converted = convert(checkpoint)
    known = {"file": checkpoint.file, "left_aside": converted.ignored, **checkpoint.configs}
    write_atomically(out / "published.json", json.dumps(known, indent=1) + "\n")
    return converted.model
