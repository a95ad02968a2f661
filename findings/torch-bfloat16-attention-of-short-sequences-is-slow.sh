#!/usr/bin/env bash
# torch 2.13.0, a CPU with avx512_bf16: scaled_dot_product_attention of short sequences takes several times longer to
# train in bfloat16 than in float32.
#
# Behaviour: forward and backward with is_causal=True, 256 sequences of 16 with 2 heads of 64, on one thread: 29 ms in
# bfloat16, 7 ms in float32. The forward pass takes about the same time in both; the difference is in the backward
# pass of the fused kernel that is taken by default. The unfused one (SDPBackend.MATH) takes 7 ms in bfloat16. With a
# length of 8 it is 1.6 times as long as in float32, with 50 2.5 times, with 64 twice (processor time of a busy
# machine, so that the numbers are rough).
# A good guess: bfloat16 is faster, as matrix products are on such a CPU, or at worst as fast; and the kernel that is
# chosen is not four times slower than the one that was passed over.
# Hurt: who trains a sequential recommender (histories of 10 to 50 items) under bfloat16 autocast on a CPU: the linear
# layers gain and attention takes it away. Attention in float32, or the unfused kernel, repairs it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
if ! grep -q avx512_bf16 /proc/cpuinfo; then
    echo "does not apply: this CPU has no avx512_bf16, and the behaviour was only seen on one that has it"
    exit 0
fi
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 numpy
cd "$folder"
OMP_NUM_THREADS=1 venv/bin/python - <<'PY'
import statistics
import sys
import time

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

torch.set_num_threads(1)
print("torch", torch.__version__, torch.backends.cpu.get_cpu_capability(), "one thread")


def milliseconds(dtype, length, backends, backward):
    q, k, v = (torch.randn(256, 2, length, 64, dtype=dtype, requires_grad=True) for _ in range(3))
    times = []
    for _ in range(23):
        start = time.process_time()
        with sdpa_kernel(backends):
            out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        if backward:
            out.sum().backward()
        times.append(1000 * (time.process_time() - start))
    return statistics.median(times[3:])


default, unfused = [SDPBackend.FLASH_ATTENTION, SDPBackend.MATH], [SDPBackend.MATH]
found = {}
for length in (8, 16, 50):
    for name, backends, backward in (
        ("forward", default, False),
        ("forward and backward", default, True),
        ("forward and backward, unfused", unfused, True),
    ):
        full, half = (milliseconds(dtype, length, backends, backward) for dtype in (torch.float32, torch.bfloat16))
        found[length, name] = full, half
        ratio = half / full
        print(f"length {length:>2}, {name:<30} float32 {full:5.1f} ms, bfloat16 {half:5.1f} ms, ratio {ratio:.1f}")
full, half = found[16, "forward and backward"]
sys.exit(not (half > 2 * full and half > 2 * found[16, "forward and backward, unfused"][1]))
PY
