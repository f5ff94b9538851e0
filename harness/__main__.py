"""``python -m harness`` is the ``sameop`` command."""

import sys

from harness.doors.cli import main

if __name__ == "__main__":
    sys.exit(main())
