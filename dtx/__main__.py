"""``python -m dtx`` is ``dtx``."""

import sys

import dtx

# Python's -m puts the working folder first, where any file may be named like a library.
_here = sys.path[0] if not sys.flags.safe_path else None
if _here is not None and not dtx.__file__.startswith(f"{_here.rstrip('/')}/"):
    del sys.path[0]

from dtx.cli import main  # noqa: E402

sys.exit(main())
