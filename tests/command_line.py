"""The command line in this process."""

import sys

from foster import cli


def exit_status(monkeypatch, *arguments) -> int:
    """Run ``foster ARGUMENTS`` and return its exit status."""
    monkeypatch.setattr(sys, "argv", ["foster", *map(str, arguments)])
    try:
        cli.main()
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0
