"""``python -m dtx.app.demo``: write the model that ships into the package, from what its experiment made."""

from __future__ import annotations

import argparse
import sys

from dtx.app.demo import COMMANDS, FOLDER
from dtx.app.demo.make import make
from dtx.app.demo.measure import verdicts
from dtx.errors import UserError
from dtx.store.store import Store
from dtx.text import near
from dtx.verbs._arguments import as_path, store_argument


def main() -> int:
    """Write it, and print whether it does what it must."""
    parser = argparse.ArgumentParser(
        prog="python -m dtx.app.demo",
        description=f"After `{COMMANDS[0]}`: write the model that ships.",
    )
    store_argument(parser)
    parser.add_argument(
        "--out", type=as_path, default=FOLDER, help="folder to write (default: in the package)"
    )
    args = parser.parse_args()
    try:
        rows = make(Store(args.store), args.out)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    size = sum(path.stat().st_size for path in args.out.rglob("*") if path.is_file())
    print(f"wrote {near(args.out)}: {size / 1e6:.2f} MB")
    for criterion, value, verdict in verdicts(rows):
        print(f"{verdict.value}: {criterion}: {value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
