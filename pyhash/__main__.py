"""Entry point of the pyhash command and of ``python -m pyhash``."""

import sys

from pyhash.support import require


def main() -> None:
    """Run the pyhash command; say what to install when its packages are missing."""
    try:
        require("click", "cli")
        from pyhash.cli import cli

        cli(prog_name="pyhash")
    except ImportError as error:
        print(f"pyhash: {error}", file=sys.stderr)
        sys.exit(4)
    except KeyboardInterrupt:  # while it was still starting
        sys.exit(130)


if __name__ == "__main__":
    main()
