"""What tuning a decoder-only language model by low-rank updates takes, from its shape alone: no weights are needed.

    python benchmarks/decoder_cost.py [--rank 8] [--items 637] [--tokens 24] [--chunk 64] [--flops 4e14]

Where a model is at hand, `foster pretrain DATA --encoder FOLDER --finetune lora:8 --dry-run` measures the same on its
own steps. Here the model lies on torch's meta device: numbers of weights, operations and kept activations are counted,
exactly, and nothing is computed. Seconds are operations by `--flops`, by default what this machine reaches in a product
of matrices of the model's width in bfloat16, so that they are the least that a step can take.
"""

from __future__ import annotations

import argparse
import time

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModel, Qwen3Config

from foster.text.tuning import _with_low_rank_updates

SHAPES = {
    "0.6 B": {"hidden_size": 1024, "num_hidden_layers": 28, "intermediate_size": 3072, "num_attention_heads": 16},
    "4 B": {"hidden_size": 2560, "num_hidden_layers": 36, "intermediate_size": 9728, "num_attention_heads": 32},
}
"""Of Qwen3 and Qwen3-Embedding; both have 8 heads of keys and values, of width 128, and 151,936 tokens."""


def decoder(shape: dict[str, int], rank: int) -> nn.Module:
    """Return a model of a shape with low-rank updates, without memory for its weights, which are in bfloat16."""
    config = Qwen3Config(vocab_size=151_936, num_key_value_heads=8, head_dim=128, **shape)
    with torch.device("meta"):
        model = AutoModel.from_config(config, dtype=torch.bfloat16).requires_grad_(False).eval()
        model = _with_low_rank_updates(model, rank)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return model


def counted(model: nn.Module, texts: int, tokens: int) -> tuple[float, float, int]:
    """Return the operations of a forward and of a backward pass, and the bytes that are kept between them."""
    own = {parameter.untyped_storage()._cdata for parameter in model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage()._cdata not in own:
            kept[tensor.untyped_storage()._cdata] = tensor.untyped_storage().nbytes()
        return tensor

    ids = torch.zeros(texts, tokens, dtype=torch.int64, device="meta")
    with (
        torch.autocast("cpu", torch.bfloat16),
        FlopCounterMode(display=False) as forward,
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
    ):
        last = model(input_ids=ids).last_hidden_state[:, -1]
    with FlopCounterMode(display=False) as backward:
        last.float().sum().backward()
    return forward.get_total_flops(), backward.get_total_flops(), sum(kept.values())


def speed(width: int, rows: int = 2048) -> float:
    """Return the operations a second of a product of matrices in bfloat16 here."""
    a, b = (torch.randn(n, width).bfloat16() for n in (rows, width))
    times = []
    for _ in range(5):
        start = time.process_time()
        a @ b
        times.append(time.process_time() - start)
    return 2 * rows * width**2 / min(times)


def main() -> None:
    """Print a row a shape."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--items", type=int, default=637, help="distinct items of a step")
    parser.add_argument("--tokens", type=int, default=24, help="of a text")
    parser.add_argument("--chunk", type=int, default=64, help="as --lm-chunk")
    parser.add_argument("--flops", type=float, help="operations a second; by default measured here, one thread")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(
        "| model | updates, MB | weights, GB | activations, all kept, GB | in chunks, GB | memory in chunks, GB | "
        "s a step, all kept | in chunks |\n|---|---|---|---|---|---|---|---|"
    )
    for name, shape in SHAPES.items():
        model = decoder(shape, arguments.rank)
        weights = sum(p.numel() * p.element_size() for p in model.parameters() if not p.requires_grad)
        updates = sum(p.numel() * 4 for p in model.parameters() if p.requires_grad)
        forward, backward, kept = counted(model, arguments.chunk, arguments.tokens)
        times = arguments.items / arguments.chunk
        rate = arguments.flops or speed(shape["hidden_size"])
        memory = weights + 4 * updates + kept  # with gradients and two moments
        print(
            f"| {name} | {updates / 1e6:.1f} | {weights / 1e9:.2f} | {kept * times / 1e9:.1f} | {kept / 1e9:.2f} | "
            f"{memory / 1e9:.1f} | {times * (forward + backward) / rate:.3g} | "
            f"{times * (2 * forward + backward) / rate:.3g} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
