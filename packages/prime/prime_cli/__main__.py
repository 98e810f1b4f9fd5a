"""`python -m prime_cli` is the `prime` command."""

from __future__ import annotations

import sys

from prime_cli.main import main

if __name__ == "__main__":
    sys.exit(main())
