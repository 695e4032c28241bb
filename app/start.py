"""What `saefari` starts: the command line, or a word for whoever stops it while it is still being read."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; Ctrl-C ends it with status 130, also while it is imported."""
    try:
        from app.cli import main as run

        run()
    except KeyboardInterrupt:
        print("saefari: Stopped.", file=sys.stderr)  # noqa: T201 (the command line talks)
        sys.exit(130)
