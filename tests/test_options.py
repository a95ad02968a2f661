"""Options: what is taken for a value."""

from __future__ import annotations

import pytest

from foster.errors import InputError
from foster.models.options import ModelOptions
from foster.text.options import EncoderOptions


def test_yes_is_no_number():
    # YAML reads yes as true, which would pass for 1.
    with pytest.raises(InputError, match=r"c\.yaml: option 'words': must not be yes or no \(got True\)"):
        EncoderOptions.parse({"words": True}, "c.yaml")
    with pytest.raises(InputError, match=r"--lm-chunk: option 'lm_chunk': must not be yes or no"):
        ModelOptions.parse({"lm_chunk": False}, {"lm_chunk": "--lm-chunk"})
    assert ModelOptions.parse({"ids": True}).ids
