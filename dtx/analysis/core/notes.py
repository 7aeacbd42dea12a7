"""Words below the titles of figures."""

from __future__ import annotations

from dtx.analysis.core.result import Result


def controls(result: Result) -> str:
    """Every control with its numbers: what was measured, and what it had to be."""
    return "; ".join(f"control: {control}" for control in result.controls)


def note(*parts: str) -> str:
    """The parts that say something, as one line."""
    return "; ".join(part for part in parts if part)
