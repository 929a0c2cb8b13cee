"""`python -m svd_core`: the command line of svd_core/cli."""

import sys

from .cli.main import main

if __name__ == "__main__":
    sys.exit(main())
