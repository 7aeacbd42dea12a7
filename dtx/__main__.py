"""``python -m dtx`` is ``dtx``."""

import sys

from dtx.cli import main

sys.exit(main())
