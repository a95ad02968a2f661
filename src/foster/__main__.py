"""``python -m foster`` is ``foster``."""

from __future__ import annotations

import signal


def main() -> None:
    """Run the command line; Ctrl-C while it is being imported ends the process, without a traceback."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:  # a shell has background jobs ignore it
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from foster.cli import main as run

    signal.signal(signal.SIGINT, before)
    run()


if __name__ == "__main__":
    main()
