"""What ``prepare`` does unless it is told otherwise; apart, so that the command line starts without numpy."""

from __future__ import annotations

K_CORE = 5
"""The least interactions of a user and of an item, as in the literature."""

LEAVE_ONE_OUT = "leave-one-out"
"""The split: the last interaction of each user is tested, the one before it validates."""
