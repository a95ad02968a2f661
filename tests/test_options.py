"""Options: what is taken for a value."""

from __future__ import annotations

import pytest

from foster.distillation.options import OPTIONS
from foster.errors import InputError
from foster.models.options import ModelOptions
from foster.text.options import EncoderOptions
from foster.training.options import TrainOptions


def test_yes_is_no_number():
    # YAML reads yes as true, which would pass for 1.
    with pytest.raises(InputError, match=r"c\.yaml: option 'words': must not be yes or no \(got True\)"):
        EncoderOptions.parse({"words": True}, "c.yaml")
    with pytest.raises(InputError, match=r"^--lm-chunk: must not be yes or no"):
        ModelOptions.parse({"lm_chunk": False}, {"lm_chunk": "--lm-chunk"})
    assert ModelOptions.parse({"ids": True}).ids


FIRST = {
    EncoderOptions: "encoder pooling max_tokens",
    ModelOptions: "dim backbone adapter ids layers heads max_length dropout finetune lm_lr_ratio lm_dtype lm_chunk",
    TrainOptions: "steps batch_size lr weight_decay warmup candidates mixup eval_every eval_users patience precision",
}


@pytest.mark.parametrize("group", FIRST, ids=lambda group: group.__name__)
def test_folders_say_every_option(group):
    # A field that comes with a new version goes into `later`, or the folders that are there cannot be read any more.
    assert [name for name in group.model_fields if name not in group.later] == FIRST[group].split()
    options = group(steps=5) if group is TrainOptions else group()  # steps follow from a log, which a folder is not
    whole = options.model_dump()
    assert group.stored(whole, "config.json") == options
    for name in whole.keys() - group.later.keys():
        part = {other: value for other, value in whole.items() if other != name}
        with pytest.raises(InputError, match=rf"config\.json: option '{name}' is missing; make or copy"):
            group.stored(part, "config.json")


def test_rates_that_single_precision_cannot_hold_are_refused():
    for options in (TrainOptions, *OPTIONS.values()):
        for name in options.model_fields:
            if name.endswith("lr") or name == "weight_decay":
                with pytest.raises(InputError, match=f"option '{name}': must be less than or equal to"):
                    options.parse({name: 1e38})
