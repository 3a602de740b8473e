"""`python -m minicontainer`: the command line, if no launcher is installed."""

from __future__ import annotations

import sys

from minicontainer.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
