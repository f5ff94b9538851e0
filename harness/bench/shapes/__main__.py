"""``python -m harness.bench.shapes [GLOB]`` prints which shapes every scope defines and which agree."""

from __future__ import annotations

import sys

from harness.paper.errors import Exit, SameopError


def main(arguments: list[str]) -> Exit:
    """Print the table, or one sentence that says why there is none."""
    try:
        # Here and not above: what draws the shapes is an extra.
        from harness.bench.shapes.table import print_table

        return print_table(arguments)
    except SameopError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit
    except ModuleNotFoundError as error:
        sys.stderr.write(f"The table needs {error.name}, which is not installed: pip install {error.name}.\n")
        return Exit.USAGE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
