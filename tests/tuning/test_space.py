"""Spaces: what can be searched, and every way to say it wrongly."""

import pytest

pytest.importorskip("optuna")

from foster.errors import InputError
from foster.models.options import ModelOptions
from foster.training.options import TrainOptions
from foster.tuning.space import DEFAULT, Choice, Range, Space, merged

USUAL = (ModelOptions(), TrainOptions())


def test_terms_come_back_and_are_optunas():
    given = {
        "dim": [32, 64],
        "weight-decay": {"low": "1e-4", "high": 0.1, "log": True},
        "layers": {"low": 1, "high": 3},
        "dropout": {"low": 0, "high": 0.4, "step": 0.1},
        "batch_size": [None, 64],
        "ids": [True, False],
    }
    space = Space.parse(given)
    assert Space.parse(space.terms()) == space
    assert space.parts["weight_decay"] == Range(1e-4, 0.1, None, True, False)
    assert space.parts["layers"] == Range(1, 3, None, False, True)
    assert space.parts["batch_size"] == Choice((None, 64))
    assert {name: type(part).__name__ for name, part in space.distributions().items()} == {
        "dim": "CategoricalDistribution",
        "weight_decay": "FloatDistribution",
        "layers": "IntDistribution",
        "dropout": "FloatDistribution",
        "batch_size": "CategoricalDistribution",
        "ids": "CategoricalDistribution",
    }


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "must hold options"),
        ({"lrr": [1]}, "unknown option 'lrr' (did you mean 'lr'?)"),
        ({"encoder": ["a"]}, "which all trials share; give it by --encoder"),
        ({"eval_users": [10]}, "must be the same in all trials"),
        ({"lr": 3}, "must hold a list of choices, or low and high"),
        ({"lr": {"low": 0.1, "hgih": 0.2}}, "unknown 'hgih' (did you mean 'high'?)"),
        ({"lr": {"low": 0.1}}, "give low and high"),
        ({"lr": {"low": 0.1, "high": 0.01}}, "nothing lies between low 0.1 and high 0.01"),
        ({"lr": {"low": 0, "high": 0.1}}, "must be greater than 0"),
        ({"lr": {"low": float("nan"), "high": 0.1}}, "finite"),
        ({"lr": {"low": 0.1, "high": 0.2, "log": 1}}, "log must be true or false"),
        ({"dropout": {"low": 0, "high": 0.5, "step": 0.2}}, "no number of steps of 0.2 leads from 0.0 to 0.5"),
        ({"dropout": {"low": 0, "high": 0.5, "step": 0}}, "step must be a number above 0"),
        ({"layers": {"low": 1, "high": 3, "step": 0.5}}, "step must be a whole number above 0"),
        ({"dropout": {"low": 0, "high": 0.5, "step": 1e-300}}, "too many steps of 1e-300 lie between 0.0 and 0.5"),
        ({"layers": {"low": 1.5, "high": 3}}, "integer"),
        ({"dropout": {"low": 0, "high": 0.5, "log": True}}, "low must be above 0 where log is true (got 0.0)"),
        ({"dim": {"low": 4, "high": 16, "step": 4, "log": True}}, "log and a step do not go together; leave one out"),
        ({"lr": {"low": 0.1, "high": 0.5, "step": 0.1, "log": True}}, "log and a step do not go together"),
        ({"trials": [3]}, "dropout, eval_every, finetune"),  # what can be searched, and that alone
        ({"max-tokens": [32]}, "'max_tokens' is of the encoder, which all trials share; give it by --max-tokens"),
        ({"backbone": {"low": 1, "high": 2}}, "is no number; give choices"),
        ({"backbone": ["gru"]}, "must be 'sasrec', 'gru4rec', 'hstu', 'ligr' or 'mean'"),
        ({"dim": []}, "choices are empty"),
        ({"dim": {"choices": [8], "low": 1}}, "choices must be a list, and stand alone"),
        ({"dim": [8, 8]}, "8 stands there twice"),
        ({"dim": [True]}, "must not be yes or no"),
        ({"finetune": ["top:none"]}, "'top:none' is not known"),
        ({"weight-decay": [0.1], "weight_decay": [0.2]}, "'weight_decay' stands there twice"),
    ],
)
def test_wrong_spaces_are_named(given, message):
    with pytest.raises(InputError) as error:
        Space.parse(given, "space.yaml")
    assert str(error.value).startswith("space.yaml: ")
    assert message in str(error.value)


def test_options_that_do_not_go_together_are_told_before_the_search():
    assert Space.parse({"dim": [8, 16], "heads": [1, 2]}).check(*USUAL, "space.yaml") is None
    said = Space.parse({"dim": [8, 9], "heads": [1, 2]}).check(*USUAL, "space.yaml")
    assert said is not None and "dim 9 is no multiple of heads 2" in said
    with pytest.raises(
        InputError, match=r"space.yaml: no options in it go together: dim (9|11) is no multiple of heads 2"
    ):
        Space.parse({"dim": [9, 11]}).check(*USUAL, "space.yaml")


def test_what_is_given_or_has_no_effect_is_not_in_the_default_space():
    assert set(Space.default().parts) == set(DEFAULT)
    assert set(DEFAULT) - set(Space.default(["dim", "backbone"], "mean").parts) == {
        "dim",
        "backbone",
        "layers",
        "heads",
    }
    assert set(DEFAULT) - set(Space.default(["backbone"], "gru4rec").parts) == {"backbone", "heads"}
    with pytest.raises(InputError, match="give --space"):
        Space.default(list(DEFAULT))
    assert Space.default().check(*USUAL, "default") is None
    space = Space.default()
    assert space.holds({**ModelOptions().model_dump(), **TrainOptions().model_dump()})


def test_numbers_have_four_digits_and_stay_inside():
    part = Range(0.00012345, 0.99999, None, False, False)
    assert part.taken(0.123456) == 0.1235
    assert part.taken(0.00012345) == 0.00012345
    assert part.taken(0.999987) == 0.99999
    assert Range(1, 9, None, False, True).taken(7) == 7


def test_what_can_be_drawn():
    assert Range(0.0, 0.5, 0.1, False, False).holds(0.3)
    assert not Range(0.0, 0.5, 0.1, False, False).holds(0.35)
    assert not Range(8, 20, 4, False, True).holds(10)
    assert not Range(1, 3, None, False, True).holds(2.5)
    assert not Range(0.0, 3.0, None, False, False).holds(True)
    assert not Choice((True, False)).holds(1)


def test_options_take_the_place_of_others():
    model, recipe = merged({"dim": 16, "lr": 0.5}, ModelOptions(heads=4), TrainOptions(steps=7))
    assert (model.dim, model.heads, recipe.lr, recipe.steps) == (16, 4, 0.5, 7)
    with pytest.raises(InputError, match="no multiple"):
        merged({"dim": 6}, ModelOptions(heads=4), TrainOptions())
