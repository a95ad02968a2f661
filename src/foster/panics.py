"""Panics of Polars, whose Rust code prints them with a stack on standard error and raises what is no Exception."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from polars.exceptions import PanicException

from foster.errors import InputError

_one_at_a_time = threading.Lock()


@contextmanager
def hushed() -> Iterator[None]:
    """Keep what a panic in the block prints from standard error.

    What is written there without a panic comes after the block. Where several threads are in such blocks, or the system
    has no files in memory, nothing is kept.
    """
    if not hasattr(os, "memfd_create") or not _one_at_a_time.acquire(blocking=False):
        yield
        return
    try:
        kept, plain = os.memfd_create("stderr"), os.dup(2)
    except OSError:
        _one_at_a_time.release()
        yield
        return
    panicked = False
    try:
        os.dup2(kept, 2)
        yield
    except PanicException:
        panicked = True
        raise
    finally:
        os.dup2(plain, 2)
        if not panicked:
            os.lseek(kept, 0, os.SEEK_SET)
            while part := os.read(kept, 2**16):
                os.write(2, part)
        os.close(kept)
        os.close(plain)
        _one_at_a_time.release()


@contextmanager
def refused(where: str) -> Iterator[None]:
    """Turn a panic in the block, or a value that Python has no number for, into an InputError of one line.

    Args:
        where: what is read, for the message.
    """
    try:
        with hushed():
            yield
    except (PanicException, OverflowError) as error:
        raise InputError(f"{where}: holds values that cannot be read ({error}); correct or remove them") from error
