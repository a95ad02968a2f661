"""Write a small text encoder, so that tuning a language model can be measured on a CPU.

    python benchmarks/small_encoder.py OUT

A BERT of two layers and width 64: the tokenizer of all-MiniLM-L6-v2, its word embeddings on their 64 principal
directions, and random layers. The mean over the tokens is about a bag of words with pretrained word vectors, at a
sixth of MiniLM's width.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from foster.text.hub import DEFAULT_ENCODER, resolve

WIDTH, LAYERS, HEADS = 64, 2, 2


def write_small_encoder(out: Path) -> None:
    """Write the encoder as a folder of ``transformers``."""
    from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel

    source = resolve(DEFAULT_ENCODER)
    words = AutoModel.from_pretrained(source).get_input_embeddings().weight.detach()
    words = words - words.mean(0)
    projected = words @ torch.linalg.svd(words, full_matrices=False)[2][:WIDTH].T
    torch.manual_seed(0)
    model = BertModel(
        BertConfig(
            vocab_size=len(words),
            hidden_size=WIDTH,
            num_hidden_layers=LAYERS,
            num_attention_heads=HEADS,
            intermediate_size=4 * WIDTH,
            max_position_embeddings=128,
        )
    )
    with torch.no_grad():
        model.get_input_embeddings().weight.copy_(projected / projected.std())
    model.save_pretrained(out)
    AutoTokenizer.from_pretrained(source, model_max_length=128).save_pretrained(out)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write a small text encoder.")
    parser.add_argument("out", type=Path)
    write_small_encoder(parser.parse_args().out)
