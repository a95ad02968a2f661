"""A BERT of a few kilobytes with its tokenizer, for tests that need an encoder and not its knowledge."""

from pathlib import Path

_WORDS = (  # noqa: SIM905 - as a list it would take a page
    "a an and the of for with in on to red green blue small large old new fast quiet sweet sour fresh dark light "
    "dog cat horse bird fish apple bread milk cheese coffee tea water sugar salt rice game race car boat plane "
    "puzzle sword castle forest ocean desert music guitar drum song story book child friend winter summer"
).split()
_SHAPE = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 128,
    # Ten times the usual: with 0.02 a random network hardly moves what enters it, and layers could be lost unseen.
    "initializer_range": 0.2,
}


def build_tiny_encoder(folder: Path) -> Path:
    """Write a random two-layer BERT (width 32, at most 128 tokens) and a WordPiece tokenizer; return ``folder``.

    The weights are the same in every run. Words outside the small vocabulary are spelled in letters.
    """
    from transformers import BertConfig, BertModel

    size = _save_tokenizer(folder, "[CLS] $A [SEP]")
    config = BertConfig(vocab_size=size, **_SHAPE)
    return _save_random(BertModel, config, folder)


def build_tiny_decoder(folder: Path) -> Path:
    """Write a random two-layer causal Qwen3 (width 32), whose tokenizer ends a text with a token; return ``folder``."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    size = _save_tokenizer(folder, "$A [SEP]")
    heads = {"num_key_value_heads": 1, "head_dim": 16}
    config = Qwen3Config(vocab_size=size, **_SHAPE, **heads, pad_token_id=0, bos_token_id=None, eos_token_id=3)
    return _save_random(Qwen3ForCausalLM, config, folder)


def build_tiny(folder: Path, model_class, config_class, template: str | None = "[CLS] $A [SEP]", **options) -> Path:
    """Write a random two-layer model of any kind, and a tokenizer for up to 512 tokens; return ``folder``.

    Args:
        folder: where.
        model_class: of transformers.
        config_class: its configuration.
        template: what the tokenizer makes of a text; None for one that has no special tokens at all, as GPT-2's.
        options: of the configuration, in place of the usual ones.
    """
    size = _save_tokenizer(folder, template, longest=512)
    shape = {**_SHAPE, "pad_token_id": None if template is None else 0, **options}
    return _save_random(model_class, config_class(vocab_size=size, **shape), folder)


def _save_random(model_class, config, folder: Path) -> Path:
    """Write a model with the same random weights in every run; return ``folder``."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model_class(config).save_pretrained(folder)
    return folder


def _save_tokenizer(folder: Path, template: str | None, longest: int = 128) -> int:
    """Write a WordPiece tokenizer and return the size of its vocabulary."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    words = [word for word in dict.fromkeys(_WORDS) if len(word) > 1]
    names = [*special, *letters, *(f"##{letter}" for letter in letters), *words]
    vocabulary = {name: number for number, name in enumerate(names)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    named = {"unk_token": "[UNK]"}
    if template is not None:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=template, special_tokens=[(name, vocabulary[name]) for name in ("[CLS]", "[SEP]")]
        )
        named |= {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=longest, **named).save_pretrained(folder)
    return len(vocabulary)
