import copy
import logging
import sys

import numpy as np
import pytest
import torch
from torch import nn

from allocations import Allocations
from foster.errors import InputError
from foster.text.encoder import TextEncoder
from foster.text.tuning import TunableEncoder, _LayerSplit, _run, parse_finetune, updates_rank

TEXTS = [
    "red dog",
    "the old castle in the forest",
    "a",
    "sweet apple and sour milk",
    "fast race car",
    "story of the ocean",
    "guitar song",
]
EVERY = torch.arange(len(TEXTS))
MODES = ["all", "top:1", "top:2", "lora:2"]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr("foster.text.tuning._BLOCK_TEXTS", 3)


def tunable(encoder, finetune, texts=TEXTS):
    module = TunableEncoder(encoder, finetune)
    module.set_catalogue(texts)
    return module


def hidden_files(cache):
    return sorted(cache.glob("hidden/*/*"))


@pytest.fixture
def lower_runs(monkeypatch):
    """Counts how often lower layers run for a catalogue."""
    runs = []
    real = _run

    def counting(model, mask, **inputs):
        if "input_ids" in inputs:
            runs.append(len(mask))
        return real(model, mask, **inputs)

    monkeypatch.setattr("foster.text.tuning._run", counting)
    return runs


@pytest.mark.parametrize(
    ("value", "meaning"),
    [
        ("frozen", ("frozen", 0)),
        ("all", ("all", 0)),
        ("top:1", ("top", 1)),
        ("top:06", ("top", 6)),
        ("lora:8", ("lora", 8)),
    ],
)
def test_finetune_is_read(value, meaning):
    assert parse_finetune(value) == meaning


@pytest.mark.parametrize(
    "value", ["", "top", "top:", "top:x", "top:-1", "top:1.5", "top:²", "ALL", "last:2", "lora", "lora:x"]
)
def test_finetune_of_another_form_is_refused(value):
    with pytest.raises(InputError, match=f"finetune: '{value}' is not known; give frozen, all, top:K .*, or lora:R"):
        parse_finetune(value)


@pytest.mark.parametrize("value", ["top:0", "top:7"])
def test_finetune_wants_a_number_of_layers_that_there_are(value):
    with pytest.raises(InputError, match=f"finetune: '{value}', but K must lie between 1 and 6"):
        parse_finetune(value, layers=6)


def test_a_rank_of_zero_is_refused():
    with pytest.raises(InputError, match="'lora:0', but the rank must be 1 or more"):
        parse_finetune("lora:0")


def test_more_layers_than_the_encoder_has_are_refused(encoder):
    with pytest.raises(InputError, match="K must lie between 1 and 2"):
        TunableEncoder(encoder, "top:3")


def test_a_rank_above_that_of_every_layer_is_refused(encoder):
    highest = max(min(part.weight.shape) for part in encoder.model.modules() if isinstance(part, torch.nn.Linear))
    TunableEncoder(encoder, f"lora:{highest}")
    with pytest.raises(InputError, match=f"'lora:{highest + 1}', but no layer .* has a rank above {highest}; give a"):
        TunableEncoder(encoder, f"lora:{highest + 1}")


def test_frozen_has_nothing_to_train(encoder):
    with pytest.raises(InputError, match="'frozen' trains no layer; give top:K, lora:R or all"):
        TunableEncoder(encoder, "frozen")


@pytest.mark.parametrize("index", [EVERY, torch.tensor([6]), torch.tensor([5, 0, 5, 2])])
@pytest.mark.parametrize("finetune", MODES)
def test_forward_is_the_encoder(encoder, finetune, index):
    vectors = tunable(encoder, finetune)(index)
    expected = encoder.encode(TEXTS)[index]
    # The states between the layers are kept in float16.
    torch.testing.assert_close(vectors, expected, atol=2e-3 if "top" in finetune else 1e-5, rtol=1e-3)


@pytest.mark.parametrize("depth", [1, 2])
def test_layers_split_without_rounding_are_the_whole(encoder, depth):
    split = _LayerSplit(encoder, f"top:{depth}")
    ids, mask = encoder.token_table(TEXTS).batch(EVERY)
    whole = _run(encoder.model, mask, input_ids=ids)
    halves = _run(split.upper, mask, inputs_embeds=_run(split.lower, mask, input_ids=ids))
    torch.testing.assert_close(halves[mask], whole[mask], atol=1e-5, rtol=0)
    assert split.below == 2 - depth


def test_cls_pooling_is_kept(options):
    encoder = TextEncoder.load(options.model_copy(update={"pooling": "cls"}))
    torch.testing.assert_close(tunable(encoder, "top:1")(EVERY), encoder.encode(TEXTS), atol=2e-3, rtol=1e-3)


@pytest.mark.parametrize(
    ("finetune", "trained"),
    [
        ("all", ("embeddings.", "encoder.layer.0.", "encoder.layer.1.")),
        ("top:1", ("encoder.layer.0.",)),  # the only layer that is left
        ("top:2", ("encoder.layer.0.", "encoder.layer.1.")),
        ("lora:2", ("encoder.layer.0.", "encoder.layer.1.")),
    ],
)
def test_gradients_reach_the_trained_layers_and_no_other(encoder, finetune, trained):
    module = tunable(encoder, finetune)
    module(EVERY).square().sum().backward()
    with_gradient = {name for name, value in module.named_parameters() if value.grad is not None}
    assert with_gradient == set(module.trainable_state_dict())
    assert {next(p for p in trained if name.startswith(f"model.{p}")) for name in with_gradient} == set(trained)
    assert all(value.grad.isfinite().all() for value in module.parameters() if value.requires_grad)
    for prefix in trained:
        own = [v for name, v in module.named_parameters() if v.requires_grad and name.startswith(f"model.{prefix}")]
        gradients = [value.grad.norm() for value in own]
        assert max(gradients) > 1e-3
    assert all(value.grad is None for value in encoder.model.parameters())


def test_gradient_of_the_top_layer_is_that_of_the_whole_model(encoder):
    top, whole = tunable(encoder, "top:1"), tunable(encoder, "all")
    weight = torch.randn(len(TEXTS), 32, generator=torch.Generator().manual_seed(0))
    for module in (top, whole):
        (module(EVERY) * weight).sum().backward()
    for name, value in top.model.encoder.layer[0].named_parameters():
        expected = whole.model.encoder.layer[1].get_parameter(name).grad
        torch.testing.assert_close(value.grad, expected, atol=0.02, rtol=0.02)


@pytest.mark.parametrize("finetune", MODES)
def test_training_moves_the_copy_and_not_the_encoder(encoder, finetune):
    before = copy.deepcopy(encoder.model.state_dict())
    module = tunable(encoder, finetune)
    target = encoder.encode(TEXTS).flip(0)
    optimiser = torch.optim.Adam([p for p in module.parameters() if p.requires_grad], lr=1e-2)
    losses = []
    for _ in range(15):
        optimiser.zero_grad()
        loss = nn.functional.mse_loss(module(EVERY), target)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert all(torch.equal(value, before[name]) for name, value in encoder.model.state_dict().items())


@pytest.mark.parametrize("finetune", ["all", "top:1"])
def test_training_mode_does_not_switch_dropout_on(encoder, finetune):
    assert encoder.model.config.hidden_dropout_prob > 0
    outer = nn.ModuleList([tunable(encoder, finetune)]).train()
    assert torch.equal(outer[0](EVERY), outer[0](EVERY))


@pytest.mark.parametrize("finetune", MODES)
def test_extended_catalogue_is_the_whole_catalogue(encoder, finetune):
    module = tunable(encoder, finetune, TEXTS[:4])
    module.extend(TEXTS[4:5])
    module.extend([])
    module.extend(TEXTS[5:])
    assert len(module) == len(TEXTS)
    torch.testing.assert_close(module(EVERY), tunable(encoder, finetune)(EVERY), atol=1e-5, rtol=0)


def test_new_catalogue_replaces_the_old(encoder):
    module = tunable(encoder, "top:1")
    module.set_catalogue(TEXTS[5:])
    assert len(module) == 2
    torch.testing.assert_close(module(torch.tensor([1])), encoder.encode(TEXTS[6:]), atol=2e-3, rtol=1e-3)


def test_forward_without_a_catalogue_says_so(encoder):
    module = TunableEncoder(encoder, "all")
    assert len(module) == 0
    with pytest.raises(RuntimeError, match="set_catalogue"):
        module(EVERY)


def test_lower_layers_run_once_for_a_catalogue(encoder, cache, lower_runs):
    first = tunable(encoder, "top:1")(EVERY)
    ours = len(hidden_files(cache))
    assert ours == 3  # blocks of 3 texts
    lower_runs.clear()
    module = TunableEncoder(encoder, "top:1")
    lower_runs.clear()  # the trial of the split
    module.set_catalogue(TEXTS)
    assert torch.equal(module(EVERY), first)
    assert not lower_runs
    tunable(encoder, "top:2")
    assert len(hidden_files(cache)) == 2 * ours


def test_a_killed_run_keeps_the_blocks_that_are_done(encoder, lower_runs, monkeypatch):
    module = TunableEncoder(encoder, "top:1")
    lower_runs.clear()
    counting = TunableEncoder.set_catalogue.__globals__["_run"]

    def killed(model, mask, **inputs):
        if sum(lower_runs) >= 6:
            raise KeyboardInterrupt
        return counting(model, mask, **inputs)

    monkeypatch.setattr("foster.text.tuning._run", killed)
    with pytest.raises(KeyboardInterrupt):
        module.set_catalogue(TEXTS)
    lower_runs.clear()
    monkeypatch.setattr("foster.text.tuning._run", counting)
    module.set_catalogue(TEXTS)
    assert sum(lower_runs) == 1  # of 7 texts, 6 were done


@pytest.mark.parametrize("damage", ["cut", "empty", "other", "infinite"])
def test_damaged_blocks_are_computed_again(encoder, cache, caplog, damage):
    first = tunable(encoder, "top:1")(EVERY)
    path = hidden_files(cache)[0]
    if damage == "other":
        np.save(path, np.zeros((2, 2), dtype=np.float16))
    elif damage == "infinite":
        np.save(path, np.full_like(np.load(path), np.inf))
    else:
        path.write_bytes(path.read_bytes()[:-9] if damage == "cut" else b"")
    with caplog.at_level(logging.WARNING):
        assert torch.equal(tunable(encoder, "top:1")(EVERY), first)
    assert [message.split(": damaged")[0] for message in caplog.messages] == [str(path)]


def test_states_that_half_precision_cannot_hold_are_an_error_and_not_cached(encoder, cache, monkeypatch):
    module = TunableEncoder(encoder, "top:1")
    monkeypatch.setattr("foster.text.tuning._run", lambda *arguments, **inputs: 1e5 * _run(*arguments, **inputs))
    with pytest.raises(InputError, match=r"not finite in half precision.*give lora:R, all or frozen"):
        module.set_catalogue(TEXTS)
    assert hidden_files(cache) == []


def test_a_cache_that_cannot_be_written_is_an_input_error(encoder, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FOSTER_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(InputError, match=r"cannot write there .* set FOSTER_CACHE to a folder with room"):
        tunable(encoder, "top:1")


@pytest.mark.parametrize("finetune", ["all", "top:1", "lora:2"])
def test_copies_share_the_catalogue_and_not_the_trained_weights(encoder, finetune):
    module = tunable(encoder, finetune)
    with torch.no_grad():
        for value in module.parameters():
            if value.requires_grad:
                value.add_(0.1)
    clone = copy.deepcopy(module)
    assert torch.equal(clone(EVERY), module(EVERY))
    assert clone._catalogue is module._catalogue
    assert clone._encoder is encoder
    for mine, copied in zip(module.parameters(), clone.parameters(), strict=True):
        assert (mine is copied) == (not mine.requires_grad)
    with torch.no_grad():
        for value in clone.parameters():
            if value.requires_grad:
                value.mul_(0.5)
    assert not torch.allclose(clone(EVERY), module(EVERY), atol=1e-2)
    clone.extend(["new game"])
    assert (len(clone), len(module)) == (len(TEXTS) + 1, len(TEXTS))


@pytest.mark.parametrize("finetune", MODES)
def test_trainable_state_restores_a_trained_encoder(encoder, finetune):
    trained = tunable(encoder, finetune)
    with torch.no_grad():
        for value in trained.parameters():
            if value.requires_grad:
                value.add_(0.1)
    state = trained.trainable_state_dict()
    fresh = tunable(encoder, finetune)
    assert not torch.allclose(fresh(EVERY), trained(EVERY), atol=1e-2)
    assert fresh.load_state_dict(state, strict=False).unexpected_keys == []
    assert torch.equal(fresh(EVERY), trained(EVERY))


def random_model(config_name, **extra):
    import transformers

    config = getattr(transformers, config_name)(
        vocab_size=200, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, hidden_size=32, **extra
    )
    torch.manual_seed(0)
    model = transformers.AutoModel.from_config(config)
    with torch.no_grad():
        for value in model.parameters():
            value.mul_(4 * torch.rand_like(value))  # a norm applied twice is seen if its weights differ
    return model.requires_grad_(False).eval()


def with_model(encoder, model):
    other = TextEncoder(model, encoder.tokenizer, "mean", 16, encoder._folder)
    other.fingerprint = type(model).__name__
    return other


@pytest.mark.parametrize(
    ("config_name", "extra"),
    [
        ("RobertaConfig", {"pad_token_id": 0}),
        ("MPNetConfig", {"pad_token_id": 0}),
        ("ModernBertConfig", {"pad_token_id": 0, "cls_token_id": 2, "sep_token_id": 3}),
    ],
)
def test_other_families_are_split_too(encoder, config_name, extra):
    other = with_model(encoder, random_model(config_name, **extra))
    vectors = tunable(other, "top:1")(EVERY)
    torch.testing.assert_close(vectors, other.encode(TEXTS), atol=5e-3, rtol=5e-3)


@pytest.mark.parametrize(
    ("config_name", "extra"), [("AlbertConfig", {"embedding_size": 16}), ("ElectraConfig", {"embedding_size": 16})]
)
def test_architectures_that_cannot_be_split_are_refused(encoder, config_name, extra):
    other = with_model(encoder, random_model(config_name, **extra))
    with pytest.raises(
        InputError, match=r"finetune: 'top:1' needs layers that we can split.* give lora:R, all or frozen"
    ):
        TunableEncoder(other, "top:1")
    assert tunable(other, "all")(EVERY).requires_grad


@pytest.mark.parametrize("finetune", ["all", "top:1", "lora:2"])
def test_chunks_are_computed_again_and_give_the_same_gradient(encoder, finetune, monkeypatch):
    kept, whole = TunableEncoder(encoder, finetune, chunk=3), tunable(encoder, finetune)
    kept.set_catalogue(TEXTS)
    weight = torch.randn(len(TEXTS), 32, generator=torch.Generator().manual_seed(0))
    runs = []
    real = _run
    monkeypatch.setattr(
        "foster.text.tuning._run", lambda model, mask, **rest: runs.append(len(mask)) or real(model, mask, **rest)
    )
    with torch.no_grad():
        assert torch.equal(kept(EVERY), whole(EVERY))
    runs.clear()
    (kept(EVERY) * weight).sum().backward()
    assert sorted(runs) == [1, 1, 3, 3, 3, 3]  # forward, and again for the gradient
    (whole(EVERY) * weight).sum().backward()
    for mine, other in zip(kept.parameters(), whole.parameters(), strict=True):
        if other.grad is not None:
            torch.testing.assert_close(mine.grad, other.grad, atol=1e-4, rtol=1e-3)


def peak_of_a_step(module, n):
    index = EVERY.repeat(n)
    with Allocations() as made:
        module(index).square().sum().backward()
    return made.peak


@pytest.mark.parametrize("finetune", ["all", "top:1", "lora:2"])
def test_memory_of_chunks_does_not_depend_on_how_many_texts_there_are(encoder, finetune):
    kept, whole = TunableEncoder(encoder, finetune, chunk=14), tunable(encoder, finetune)
    kept.set_catalogue(TEXTS)
    for module in (kept, whole):
        peak_of_a_step(module, 2)  # gradients are there now
    assert peak_of_a_step(kept, 32) < 1.25 * peak_of_a_step(kept, 4)
    assert peak_of_a_step(whole, 32) > 4 * peak_of_a_step(whole, 4)


def test_texts_of_like_length_run_together(encoder, monkeypatch):
    module = tunable(encoder, "all")
    expected = module(EVERY)
    padded, real = [], _run
    monkeypatch.setattr("foster.text.tuning._GROUP_TOKENS", 8)
    monkeypatch.setattr(
        "foster.text.tuning._run", lambda model, mask, **rest: padded.append(mask) or real(model, mask, **rest)
    )
    torch.testing.assert_close(module(EVERY), expected, atol=1e-5, rtol=1e-4)
    lengths = module._catalogue.tokens.lengths
    assert sum(len(mask) for mask in padded) == len(TEXTS) and len(padded) > 3
    assert sum(mask.numel() for mask in padded) < 0.7 * len(TEXTS) * lengths.max()
    index = torch.tensor([5, 0, 5, 2])
    torch.testing.assert_close(module(index), expected[index], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(module.encode(TEXTS), expected.detach(), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("finetune", ["all", "top:1", "lora:2"])
def test_products_in_half_precision_leave_trained_weights_whole(encoder, finetune):
    module = TunableEncoder(encoder, finetune, dtype=torch.bfloat16)
    module.set_catalogue(TEXTS)
    vectors = module(EVERY)
    assert vectors.dtype == torch.float32
    exact = encoder.encode(TEXTS)
    assert 0 < (vectors - exact).norm() < 0.05 * exact.norm()
    vectors.square().sum().backward()
    for value in module.parameters():
        assert value.dtype == (torch.float32 if value.requires_grad else torch.bfloat16)
        assert not value.requires_grad or value.grad.dtype == torch.float32


def test_low_rank_updates_are_the_same_in_every_model_and_zero_at_first(encoder):
    first, second = tunable(encoder, "lora:2"), tunable(encoder, "lora:2")
    for name, value in first.trainable_state_dict().items():
        assert torch.equal(value, second.trainable_state_dict()[name])
        assert ("lora_B" in name) == (not value.any())


def test_a_missing_package_for_low_rank_updates_is_an_input_error(encoder, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(InputError, match=r"needs the package peft; run: pip install 'foster\[lora\]'"):
        TunableEncoder(encoder, "lora:2")


@pytest.mark.parametrize(
    ("down", "up"), [((2, 3), (3,)), ((), (4, 2)), ((2, 3), (4, 3)), ((2, 3), ()), ((2, 3), (4, 2, 1))]
)
def test_updates_that_are_no_pairs_of_matrices_are_refused(down, up):
    with pytest.raises(ValueError, match="no pairs of matrices of one rank"):
        updates_rank({"a.lora_A.weight": torch.zeros(down), "a.lora_B.weight": torch.zeros(up)})


def test_the_rank_of_updates_is_theirs():
    assert updates_rank({"a.lora_A.weight": torch.zeros(2, 3), "a.lora_B.weight": torch.zeros(4, 2)}) == 2
