"""The command line. Importing it imports nothing: `main` does when it runs."""

from __future__ import annotations

from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program on `argv`, or on what it was started with; returns its exit code."""
    from roofline.cli import app

    return app.main(argv)
