"""Progress on what is no terminal, told by a clock that the tests move."""

import io
import logging
import sys
import time
import warnings

import pytest

from foster import progress
from foster.progress import Progress, is_quiet, quietly, stage


class Terminal(io.StringIO):
    """Stderr as a user has it."""

    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """Give a function that lets seconds go by."""
    now = [1000.0]
    monkeypatch.setattr("tqdm.std.time", lambda: now[0])

    def pass_by(seconds: float) -> None:
        now[0] += seconds

    return pass_by


def lines_of(clock, steps: int, seconds: float, capfd) -> list[str]:
    for _ in Progress(range(steps), what="training"):
        clock(seconds)
    return capfd.readouterr().err.splitlines()


def test_a_line_a_minute_with_the_time_left(clock, capfd):
    lines = lines_of(clock, 100, 3, capfd)
    assert (
        lines
        == [
            "training:  20%, 20 of 100, 01:00 so far, 04:00 left",
            "training:  40%, 40 of 100, 02:00 so far, 03:00 left",
            "training:  60%, 60 of 100, 03:00 so far, 02:00 left",
            "training:  80%, 80 of 100, 04:00 so far, 01:00 left",
            "training: 100%, 100 of 100, 05:00 so far, 00:00 left",
            "training: 100%, 100 of 100, 05:00 so far, 00:00 left",
        ][: len(lines)]
    )
    assert len(lines) >= 5


def test_what_is_shorter_than_a_minute_says_nothing(clock, capfd):
    assert lines_of(clock, 100, 0.5, capfd) == []


def test_slow_steps_are_a_line_each(clock, capfd):
    lines = lines_of(clock, 3, 90, capfd)
    assert lines[0] == "training:  33%, 1 of 3, 01:30 so far, 03:00 left" and "100%" in lines[-1]


def test_what_is_moved_by_hand_and_breaks_off(clock, capfd):
    with pytest.raises(RuntimeError), Progress(what="encoding texts", total=1000, unit="text") as bar:
        for _ in range(8):
            clock(10)
            bar.update(100)
        raise RuntimeError
    assert capfd.readouterr().err.splitlines() == [
        "encoding texts:  60%, 600 of 1000, 01:00 so far, 00:40 left",
        "encoding texts:  80%, 800 of 1000, 01:20 so far, 00:20 left",
    ]


def test_a_terminal_has_a_bar(clock, monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    for _ in Progress(range(4), what="training"):
        clock(1)
    assert "\r" in sys.stderr.getvalue() and "4/4" in sys.stderr.getvalue()


@pytest.mark.parametrize("stream", [Terminal(), io.StringIO()], ids=["terminal", "file"])
def test_nothing_where_quiet_is_asked_for(clock, monkeypatch, stream):
    monkeypatch.setattr(sys, "stderr", stream)
    with quietly():
        for _ in Progress(range(4), what="training"):
            clock(100)
        warnings.warn("a warning", stacklevel=1)
        logging.getLogger("foster.x").warning("a note")
        assert logging.getLogger("foster.x").isEnabledFor(logging.ERROR)
        assert is_quiet()
    assert stream.getvalue() == "" and not is_quiet()
    assert logging.getLogger("foster.x").isEnabledFor(logging.WARNING)


def test_a_stage_of_unknown_length_says_that_it_goes_on(monkeypatch, capfd):
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.02)
    with stage("preparing: reading"):
        time.sleep(0.2)
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) > 1 and set(lines) == {"preparing: reading: 00:00 so far"}
    with quietly(), stage("preparing: reading"):
        time.sleep(0.1)
    assert capfd.readouterr().err == ""


def test_a_process_without_stderr(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    assert list(Progress(range(3), what="training", shown=False)) == [0, 1, 2]
