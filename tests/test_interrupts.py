"""Ctrl-C at odd moments: while the command line is imported, and where Python drops what a handler raises."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

DROPPED = """
import signal, sys, time, weakref
from foster.cli import errors

class Thing:
    pass

def command():
    thing = Thing()
    called = weakref.ref(thing, lambda _: signal.raise_signal({number}))
    del thing  # in whose callback the signal comes
    time.sleep(60)

signal.signal(signal.SIGALRM, lambda *_: sys.exit(99))
signal.alarm(50)
try:
    errors.run(command)
except KeyboardInterrupt:
    sys.exit(130)
"""
IMPORTED = """
import os, signal, sys
from foster import __main__

class Importing:
    def find_spec(self, name, path=None, target=None):
        if name == "foster.cli":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Importing())
__main__.main()
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_that_python_drops_is_sent_again(number, code):
    ended = subprocess.run([sys.executable, "-c", DROPPED.format(number=int(number))], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (code, "")


def test_ctrl_c_while_importing_ends_without_a_traceback():
    ended = subprocess.run([sys.executable, "-c", IMPORTED], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (-signal.SIGINT, "")


def test_a_background_job_goes_on_ignoring_ctrl_c():
    first = "import signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); sys.argv[1:] = ['--version']"
    ended = subprocess.run([sys.executable, "-c", f"{first}\n{IMPORTED}"], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")
