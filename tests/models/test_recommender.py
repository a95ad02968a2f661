"""The recommender as users meet it: saving, loading, recommending, new items."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch

from allocations import Allocations
from foster.data.catalogue import Catalogue, popularity_of
from foster.errors import InputError
from foster.models.moe import EXPERTS, MoEAdapter
from foster.models.options import ModelOptions
from foster.models.recommender import TextRecommender, _shapes, differing
from foster.text.options import EncoderOptions
from foster.text.tuning import TunableEncoder
from foster.training.losses import next_item_loss
from foster.training.options import TrainOptions
from small_models import small_recommender

BACKBONES = get_args(ModelOptions.model_fields["backbone"].annotation)


@pytest.fixture
def model(tiny_encoder):
    things = ["dog", "cat", "boat", "song", "tea", "game"]
    texts = [f"{colour} {thing}" for colour in ("red", "green", "blue") for thing in things]
    catalogue = Catalogue([f"i{n}" for n in range(18)], texts)
    return TextRecommender.build(
        catalogue,
        EncoderOptions(encoder=str(tiny_encoder)),
        ModelOptions(dim=8, layers=1, heads=1, max_length=5, dropout=0.0),
    ).eval()


def test_popularity_is_a_feature_beside_the_text(model, tmp_path):
    popularity = popularity_of(np.arange(18))
    assert np.mean(popularity) == pytest.approx(0, abs=1e-6) and np.std(popularity) == pytest.approx(1)
    assert sorted(popularity) == popularity
    catalogue = replace(model.catalogue, popularity=popularity)
    other = TextRecommender.build(catalogue, model.encoder, model.options).eval()
    features = other.tower.features.vectors
    assert features.shape[1] == other.tower.features.width == model.tower.features.width + 1
    torch.testing.assert_close(features[:, :-1], model.tower.features.vectors)
    torch.testing.assert_close(features[:, -1], torch.tensor(popularity))
    assert torch.equal(other.public_features(model.encoder), features)

    other.save_pretrained(tmp_path / "model")
    loaded = TextRecommender.from_pretrained(tmp_path / "model")
    assert loaded.catalogue == catalogue
    torch.testing.assert_close(loaded.tower.features.vectors, features)
    history = [["i0", "a text of no item"]]
    assert loaded.recommend(history, k=5) == other.recommend(history, k=5)


def test_a_new_item_is_of_mean_popularity(model, tmp_path):
    catalogue = replace(model.catalogue, popularity=popularity_of(np.arange(18)))
    other = TextRecommender.build(catalogue, model.encoder, model.options).eval()
    other.add_items(["red tea dog"], ["new"])
    assert other.tower.features.vectors[-1, -1] == 0.0 and other.catalogue.popularity[-1] == 0.0
    other.save_pretrained(tmp_path / "model")
    loaded = TextRecommender.from_pretrained(tmp_path / "model")
    torch.testing.assert_close(loaded.tower.features.vectors, other.tower.features.vectors, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(loaded.tower.table(), other.item_table(), rtol=1e-4, atol=1e-4)


def test_popularity_needs_a_frozen_language_model(model):
    catalogue = replace(model.catalogue, popularity=[0.0] * 18)
    with pytest.raises(InputError, match="--finetune all: the data were prepared with --popularity"):
        TextRecommender.build(catalogue, model.encoder, model.options.model_copy(update={"finetune": "all"}))


def test_damaged_popularity(model, tmp_path):
    replace(model.catalogue, popularity=[0.0] * 18).save(tmp_path)
    model.catalogue.extended(["new"], ["red"]).save(tmp_path)
    with pytest.raises(InputError, match=r"popularity\.parquet: does not fit"):
        Catalogue.read(tmp_path)


def test_equally_popular_items():
    assert popularity_of(np.full(3, 7)) == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("name", BACKBONES)
def test_states_do_not_depend_on_what_follows(model, name):
    options = ModelOptions(backbone=name, dim=8, layers=2, heads=2, max_length=10, dropout=0.0)
    backbone = model.fresh(0, options).backbone.eval()
    inputs = torch.randn(2, 10, 8, generator=torch.Generator().manual_seed(0))
    states = backbone(inputs)
    torch.testing.assert_close(states[:, :4], backbone(inputs[:, :4]))
    # Order counts, but not for the mean.
    swapped = backbone(inputs[:, [1, 0, *range(2, 10)]])[:, -1]
    assert torch.allclose(states[:, -1], swapped, atol=1e-5) == (name == "mean")


@pytest.mark.parametrize("name", BACKBONES[1:])
def test_another_sequence_model_is_trained_saved_and_loaded(model, name, tmp_path):
    other = model.fresh(0, model.options.model_copy(update={"backbone": name}))
    generator = torch.Generator().manual_seed(0)
    items = torch.tensor([[0, 1, 2, 3], [4, 5, 6, -1]])
    loss = next_item_loss(other, items, 18, generator)
    loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in other.backbone.parameters() if p.dim() > 1)
    other.eval().save_pretrained(tmp_path / "model")
    loaded = TextRecommender.from_pretrained(tmp_path / "model")
    assert loaded.recommend([["i0", "i1"]], k=5) == other.recommend([["i0", "i1"]], k=5)


def test_experts_are_a_gated_sum_of_linear_maps(model):
    other = model.fresh(0, model.options.model_copy(update={"adapter": "moe"})).eval()
    moe = other.tower.adapter
    with torch.no_grad():
        for parameter in moe.parameters():
            parameter.normal_()
    features = other.tower.features(torch.arange(4))
    gates = torch.softmax(features @ moe.gate, -1)
    expected = features @ moe.base
    for gate, down, up, shift in zip(
        gates.T, moe.down.chunk(EXPERTS, 1), moe.up.chunk(EXPERTS), moe.shift.chunk(EXPERTS), strict=True
    ):
        expected = expected + gate[:, None] * ((features @ down - shift) @ up)
    torch.testing.assert_close(moe(features), expected, atol=1e-3, rtol=1e-4)
    moe.train()
    assert not torch.allclose(moe(features), moe(features))  # noisy gates


def test_noisy_gates_say_little_at_the_start_since_experts_are_nearly_alike():
    features = torch.randn(200, 64, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    moe, linear = MoEAdapter(64, 16, dropout=0), torch.randn(64, 16) / 8
    quiet, noisy = moe.eval()(features), moe.train()(features)
    assert quiet.norm().item() == pytest.approx((features @ linear).norm().item(), rel=0.1)
    assert 0 < (noisy - quiet).norm() < 0.1 * quiet.norm()


def test_a_model_with_experts_is_trained_saved_and_loaded(model, tmp_path):
    other = model.fresh(0, model.options.model_copy(update={"adapter": "moe"}))
    loss = next_item_loss(other, torch.tensor([[0, 1, 2, 3], [4, 5, 6, -1]]), 18, torch.Generator().manual_seed(0))
    loss.backward()
    assert all(p.grad is not None for p in other.tower.parameters())
    other.eval().save_pretrained(tmp_path / "model")
    loaded = TextRecommender.from_pretrained(tmp_path / "model")
    assert loaded.recommend([["i0", "i1"]], k=5) == other.recommend([["i0", "i1"]], k=5)
    assert loaded.recommend([["red apple"]], k=5)


def test_history_is_left_out_and_best_comes_first(model):
    ((*pairs,),) = model.recommend([["i0", "i1"]], k=16)
    assert [s for _, s in pairs] == sorted((s for _, s in pairs), reverse=True)
    assert {item for item, _ in pairs} == {f"i{n}" for n in range(2, 18)}
    kept = model.recommend([["i0", "i1"]], k=18, exclude_history=False)[0]
    assert {"i0", "i1"} <= {item for item, _ in kept}


def test_a_raw_text_counts_as_the_item_with_that_text(model):
    by_id = model.recommend([["i3"]], k=5, exclude_history=False)
    by_text = model.recommend([["red song"]], k=5, exclude_history=False)
    assert [i for i, _ in by_id[0]] == [i for i, _ in by_text[0]]


def test_saved_and_loaded_models_agree(model, tmp_path):
    model.save_pretrained(tmp_path / "model")
    loaded = TextRecommender.from_pretrained(tmp_path / "model")
    assert loaded.recommend([["i0", "a new text"]], k=5) == model.recommend([["i0", "a new text"]], k=5)


def test_new_items_are_ranked_and_survive_saving(model, tmp_path):
    model.add_items(["dark horse"], ["new"])
    assert "new" in {item for item, _ in model.recommend([["i0"]], k=18)[0]}
    model.save_pretrained(tmp_path / "model")
    loaded = TextRecommender.from_pretrained(tmp_path / "model")
    assert loaded.recommend([["new", "i2"]], k=5) == model.recommend([["new", "i2"]], k=5)
    torch.testing.assert_close(loaded.tower.table(), model.item_table(), rtol=1e-4, atol=1e-4)
    with pytest.raises(InputError, match="'new' is in the catalogue already"):
        model.add_items(["other"], ["new"])


@pytest.mark.parametrize("finetune", ["all", "top:1"])
def test_a_tuned_language_model_learns_and_survives_saving(tiny_encoder, tmp_path, finetune):
    from foster.data.catalogue import Catalogue
    from foster.training.losses import next_item_loss

    catalogue = Catalogue(["a", "b", "c"], ["red dog", "blue cat", "green tea"])
    options = ModelOptions(dim=8, layers=1, heads=1, max_length=5, finetune=finetune)
    model = TextRecommender.build(catalogue, EncoderOptions(encoder=str(tiny_encoder)), options)
    before = model.trained_state()
    assert any(name.startswith("tower.features") for name in before)
    optimiser = torch.optim.AdamW(model.trained_parameters(), lr=1e-2)
    next_item_loss(model.train(), torch.tensor([[0, 1, 2]]), 3, torch.Generator()).backward()
    optimiser.step()
    moved = {name for name, value in model.trained_state().items() if not torch.equal(value, before[name])}
    assert any(name.startswith("tower.features") for name in moved)
    model.eval().save_pretrained(tmp_path / "model")
    loaded = TextRecommender.from_pretrained(tmp_path / "model")
    torch.testing.assert_close(loaded.tower.table(), model.item_table(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("finetune", "ratio", "expected"), [("all", None, 0.01), ("top:1", 0.5, 0.5), ("lora:2", None, 0.1)]
)
def test_a_tuned_language_model_learns_more_slowly_than_the_rest(tiny_encoder, finetune, ratio, expected):
    if finetune.startswith("lora"):
        pytest.importorskip("peft", reason="needs the extra lora: pip install '.[lora]'")
    from foster.data.catalogue import Catalogue

    options = ModelOptions(dim=8, layers=1, heads=1, max_length=5, finetune=finetune, lm_lr_ratio=ratio)
    catalogue = Catalogue(["a", "b", "c"], ["red dog", "blue cat", "green tea"])
    model = TextRecommender.build(catalogue, EncoderOptions(encoder=str(tiny_encoder)), options)
    rest, tuned = model.parameter_groups(0.2)
    assert (rest["lr"], tuned["lr"]) == pytest.approx((0.2, 0.2 * expected))
    names = {id(p): name for name, p in model.named_parameters()}
    assert all(names[id(p)].startswith("tower.features.") for p in tuned["params"]) and tuned["params"]
    assert not any(names[id(p)].startswith("tower.features.") for p in rest["params"])
    assert len(rest["params"]) + len(tuned["params"]) == len(model.trained_parameters())


@pytest.mark.parametrize(
    ("histories", "k", "message"),
    [([[]], 3, "history 0 is empty"), ([["0"]], 41, "k=41"), (["0"], 3, "one list of items a user")],
)
def test_bad_requests(histories, k, message):
    with pytest.raises(InputError, match=message):
        small_recommender().recommend(histories, k)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_scores_that_are_not_finite_are_an_error(value):
    model = small_recommender()
    with torch.no_grad():
        model.tower.adapter.weight[0, 0] = value
    with pytest.raises(InputError, match="scores that are not finite"):
        model.recommend([["1"]], 3)


def test_a_history_may_leave_less_than_was_asked_for():
    model = small_recommender()
    (found,) = model.recommend([[str(n) for n in range(37)]], 10)
    assert sorted(item for item, _ in found) == ["37", "38", "39"]


def test_items_added_one_by_one_are_those_added_at_once(monkeypatch):
    features = torch.randn(1200, 12, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(
        TextRecommender, "_text_features", lambda self, texts: features[[int(text.split()[1]) for text in texts]]
    )
    one, all_at_once = small_recommender(), small_recommender()
    texts, ids = [f"new {n}" for n in range(1200)], [f"n{n}" for n in range(1200)]
    for item_id, text in zip(ids, texts, strict=True):
        assert one.add_items([text], [item_id]) == [item_id]
        if item_id == "n700":
            assert one.catalogue.ids[-1] == "n700" and len(one.catalogue) == one.n_items == 741
    all_at_once.add_items(texts, ids)
    torch.testing.assert_close(one.item_table(), all_at_once.item_table())
    for found, wanted in zip(
        *(m.recommend([["n3", "39"], ["n1199", "1"]], 20) for m in (one, all_at_once)), strict=True
    ):
        assert [item for item, _ in found] == [item for item, _ in wanted]
    assert one.catalogue == all_at_once.catalogue
    assert one.catalogue.index["n1199"] == 1239 and one.n_items == len(one.item_table()) == len(one.tower.features)
    torch.testing.assert_close(one.tower.table(), one.item_table())
    for again in (["n5"], ["0"]):
        with pytest.raises(InputError, match=f"'{again[0]}' is in the catalogue already"):
            one.add_items(["new 1"], again)


def test_models_of_one_catalogue_do_not_see_the_items_of_each_other(monkeypatch):
    monkeypatch.setattr(TextRecommender, "_text_features", lambda self, texts: torch.ones(len(texts), 12))
    model = small_recommender()
    model.add_items(["first"])
    copied = copy.deepcopy(model)
    model.add_items(["second"])
    copied.add_items(["third"])
    assert model.catalogue.ids[40:] == ["first", "second"] and copied.catalogue.ids[40:] == ["first", "third"]
    assert small_recommender().catalogue.ids == model.catalogue.ids[:40]


@pytest.mark.parametrize("history", [["3", "5"], ["3", "a text"]])
def test_a_recommendation_copies_no_table(history, monkeypatch):
    monkeypatch.setattr(TextRecommender, "_text_features", lambda self, texts: torch.ones(len(texts), 12))
    model = small_recommender(20_000)
    model.add_items(["one more"])  # its table is stored
    table = model.item_table()
    with Allocations() as allocations:
        (found,) = model.recommend([history], k=5)
    assert allocations.largest <= 8 * len(table) < table.nbytes  # the scores of two users
    vectors = torch.cat([table[[3]], table[[5]] if "5" in history else model.encode_texts(["a text"])])
    scores = model.scores(model.last_states([[0, 1]], vectors), table)[0]
    scores[[int(item) for item in history if item.isdigit()]] = -torch.inf
    best = scores.topk(5)
    assert [item for item, _ in found] == [model.catalogue.ids[item] for item in best.indices]
    torch.testing.assert_close(torch.tensor([score for _, score in found]), best.values)


def test_users_in_blocks_are_recommended_what_each_is_alone(monkeypatch):
    model, histories = small_recommender(), [[str(n), str(n + 3)] for n in range(30)]
    alone = [model.recommend([history], 5)[0] for history in histories]
    monkeypatch.setattr("foster.models.item_index.SCORES", 3 * 40)
    for found, wanted in zip(model.recommend(histories, 5), alone, strict=True):
        assert [item for item, _ in found] == [item for item, _ in wanted]
        assert [score for _, score in found] == pytest.approx([score for _, score in wanted])


def test_a_new_text_does_not_copy_a_tuned_language_model(tiny_encoder, monkeypatch):
    catalogue = Catalogue(["a", "b", "c"], ["red dog", "blue cat", "green tea"])
    options = ModelOptions(dim=8, layers=1, heads=1, max_length=5, finetune="all")
    model = TextRecommender.build(catalogue, EncoderOptions(encoder=str(tiny_encoder)), options).eval()
    by_id = model.recommend([["b", "c"]], 3, exclude_history=False)
    monkeypatch.setattr(TunableEncoder, "__deepcopy__", lambda *_: pytest.fail("the language model was copied"))
    by_text = model.recommend([["blue cat", "green tea"]], 3)
    assert [item for item, _ in by_id[0]] == [item for item, _ in by_text[0]]
    torch.testing.assert_close(model.encode_texts(["green tea"]), model.item_table()[2:])
    for number in range(5):
        model.add_items([f"tea {number} dog"])
    torch.testing.assert_close(model.tower.table(), model.item_table(), atol=1e-4, rtol=1e-4)
    assert model.n_items == len(model.tower.features) == 8


@pytest.mark.parametrize(("name", "value"), [("precision", 1.5), ("mixup", 1.0), ("steps", True), ("lr", "auto")])
def test_a_recipe_with_a_value_of_another_type_is_refused(tmp_path, name, value):
    model = small_recommender()
    with pytest.raises(InputError, match="'training' is wrong"):
        model.save_pretrained(tmp_path / "model", extra={"training": TrainOptions().model_dump() | {name: value}})


def test_excluded_items_and_those_that_are_no_candidates_are_never_recommended():
    model = small_recommender()
    histories = [["3", "5"], ["2", "9", "30"], ["1"]]
    everything = model.recommend(histories, 35)

    def without(items: set[str], k: int) -> list[list[str]]:
        return [[item for item, _ in found if item not in items][:k] for found in everything]

    best = {item for found in everything for item, _ in found[:2]}
    found = model.recommend(histories, 10, exclude=sorted(best))
    assert [[item for item, _ in one] for one in found] == without(best, 10)
    candidates = [str(n) for n in range(0, 40, 3)]
    found = model.recommend(histories, 8, candidates=candidates, exclude=["0", "3"])
    assert [[item for item, _ in one] for one in found] == without({str(n) for n in range(40)} - {*candidates[2:]}, 8)
    # Fewer than k are left where the history holds the others.
    assert [item for item, _ in model.recommend([["3", "5"]], 2, candidates=["3", "7"])[0]] == ["7"]
    for fault, said in (
        ({"exclude": ["x"]}, "exclude: item 'x' is not in the catalogue"),
        ({"candidates": "12"}, "candidates: is a list of item ids"),
        ({"candidates": ["1"], "exclude": ["1"]}, "no item is left"),
        ({"candidates": []}, "no item is left"),
        ({"candidates": ["1", "2"]}, "k=10; give 1 to 2"),
        ({"index": model.index(), "exclude": ["1"]}, "an index has its own items"),
        ({"index": small_recommender(30).index()}, "was made of 30 items, and the model has 40"),
    ):
        with pytest.raises(InputError, match=said):
            model.recommend([["3"]], 10, **fault)


def test_similar_items_are_those_of_the_greatest_cosine(model):
    table = torch.nn.functional.normalize(model.item_table(), dim=1)
    cosines = table @ table[4]
    order = [i for i in cosines.argsort(descending=True).tolist() if i != 4]
    by_id, by_text = model.similar(["i4", "red tea dog"], 5)
    assert [item for item, _ in by_id] == [f"i{i}" for i in order[:5]]
    torch.testing.assert_close(torch.tensor([c for _, c in by_id]), cosines[order[:5]])
    assert len(by_text) == 5
    # The text of an item is that item.
    assert model.similar([model.catalogue.texts[4]], 1)[0][0] == ("i4", pytest.approx(1, abs=1e-4))
    assert [item for item, _ in model.similar(["i4"], 1, exclude=[f"i{order[0]}"])[0]] == [f"i{order[1]}"]
    assert model.similar([], 5) == []


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"k": 0}, r"^k=0; give 1 to \d+, the number of items that are ranked$"),
        ({"candidates": []}, "^no item is left to be ranked; exclude fewer, or give more candidates$"),
        ({"entries": "i4"}, "^similar: entries is a list of items"),
    ],
)
def test_what_similar_cannot_do_names_no_other_verb(model, asked, message):
    with pytest.raises(InputError, match=message):
        model.similar(**{"entries": ["i4"], **asked})


@pytest.mark.parametrize("text", ["\ud800", "caf\udce9"])
def test_texts_that_are_no_unicode_are_refused_in_one_line(model, text):
    with pytest.raises(InputError, match=r"item text 0 \(.*\) is no Unicode text; decode it"):
        model.recommend([[text]])
    with pytest.raises(InputError, match="add_items: item 'new' or its text is no Unicode text"):
        model.add_items([text], ["new"])


def test_a_model_that_does_not_fit_into_memory_is_refused_before_it_is_made(model, monkeypatch):
    monkeypatch.setattr("foster.models.recommender.free_memory", lambda: 100_000)
    large = model.options.model_copy(update={"dim": 64})
    message = r"a model of dim 64, layers \d+ and max_length \d+ takes 0\.\d GB, and 0\.0 GB of memory are free; lower"
    for make in (lambda: model.fresh(0, large), lambda: TextRecommender.build(model.catalogue, model.encoder, large)):
        with pytest.raises(InputError, match=message):
            make()
    assert model.fresh(0).options == model.options  # its like is there already


def test_weights_of_gru4rec_without_its_residual_connection_are_refused():
    """Their shapes are the same, so that a model of before would be another one silently."""
    wanted = _shapes(ModelOptions(backbone="gru4rec"), 8, 8, 5)
    before = {name.replace("backbone.recurrent.", "backbone.gru."): shape for name, shape in wanted.items()}
    assert differing(wanted, wanted) is None
    assert differing(before, wanted) == "tensor backbone.recurrent.weight_ih_l0 is missing"
