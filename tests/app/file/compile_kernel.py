"""Compile kernel.wat to the bytes that ship: ``python -m tests.app.file.compile_kernel``."""

from __future__ import annotations

from pathlib import Path

import wasmtime

import dtx.app.file.contents as contents

TEXT = contents.KERNEL.with_suffix(".wat")


def compiled() -> bytes:
    """The bytes of kernel.wat."""
    return bytes(wasmtime.wat2wasm(TEXT.read_text(encoding="utf-8")))


if __name__ == "__main__":
    Path(contents.KERNEL).write_bytes(compiled())
