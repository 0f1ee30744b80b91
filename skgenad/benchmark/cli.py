"""The command ``skgenad``."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; without the extra that it needs, say which one to install."""
    try:
        from ._app import app
    except ImportError as error:
        if error.name != "typer":
            raise
        sys.exit(
            "skgenad: this needs the optional package 'typer', which is not installed; "
            'install it with: pip install "skgenad[bench]"'
        )
    app()


if __name__ == "__main__":
    main()
