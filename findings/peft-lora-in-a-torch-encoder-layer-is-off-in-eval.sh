#!/usr/bin/env bash
# peft 0.21.2, torch 2.13.0, CPU: LoRA on the linear layers of nn.TransformerEncoderLayer is trained, and is not used in
# eval mode.
#
# Behaviour: with target_modules=["linear1", "linear2"] the adapter trains, and the loss falls. model.eval() has the
# outputs of the model without the adapter, to the last bit, with gradients or without, with a causal mask or without.
# model.train(), without dropout, and merge_and_unload() have the trained ones. In eval mode the layer reads the weights
# of its parts and runs them in one fused operation; peft's layer shows the frozen weight under that name, so that
# nothing fails and nothing is said.
# A good guess: eval mode differs from train mode by dropout only; the fused operation is not taken for parts that are
# no nn.Linear, as it is not taken where they have hooks.
# Hurt: who adapts a SASRec- or BERT-like recommender made of these layers: validation metrics do not move while the
# loss falls, early stopping takes the first epoch, and lists are those of the model before adaptation. With
# "all-linear" the attention changes in eval mode and the rest does not, a model that was never trained.
# torch.backends.mha.set_fastpath_enabled(False), or merging first, repairs it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 numpy
"$folder/venv/bin/pip" install -q peft==0.21.2 transformers==5.23.0 accelerate==1.15.0
cd "$folder"
OMP_NUM_THREADS=1 venv/bin/python -W ignore - <<'PY'
import sys

import peft
import torch
from torch import nn

print("peft", peft.__version__, "torch", torch.__version__)
torch.manual_seed(0)
layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
inputs, wanted = torch.randn(64, 6, 16), torch.randn(64, 6, 16)
causal = nn.Transformer.generate_square_subsequent_mask(6)
with torch.no_grad():
    before = {mask is None: encoder.eval()(inputs, mask=mask) for mask in (None, causal)}
model = peft.get_peft_model(encoder, peft.LoraConfig(r=8, lora_alpha=32, target_modules=["linear1", "linear2"]))


def loss():
    return nn.functional.mse_loss(model(inputs), wanted)


def same(one, other):
    return torch.allclose(one, other, atol=1e-4)


optimizer = torch.optim.Adam([weight for weight in model.parameters() if weight.requires_grad], lr=0.02)
losses = []
for step in range(201):
    optimizer.zero_grad()
    model.train()
    trained = loss()
    trained.backward()
    if step % 100 == 0:
        model.eval()
        with torch.no_grad():
            losses.append((trained.item(), loss().item()))
        print(f"step {step:3}  loss in train mode {losses[-1][0]:.3f}   in eval mode {losses[-1][1]:.3f}")
    optimizer.step()
with torch.no_grad():
    in_train = model.train()(inputs)
    in_eval, in_eval_causal = model.eval()(inputs), model(inputs, mask=causal)
    torch.backends.mha.set_fastpath_enabled(False)
    unfused = model(inputs)
    torch.backends.mha.set_fastpath_enabled(True)
with_gradients = model(inputs).detach()
with torch.no_grad():
    merged = model.merge_and_unload().eval()(inputs)
found = {
    "eval is as before the adapter": torch.equal(in_eval, before[True]),
    "eval with a causal mask is as before": torch.equal(in_eval_causal, before[False]),
    "eval with gradients is as before": torch.equal(with_gradients, before[True]),
    "train is as before": same(in_train, before[True]),
    "eval without the fused operation is as train": same(unfused, in_train),
    "merged is as train": same(merged, in_train),
}
for name, value in found.items():
    print(f"{name:<46} {value}")
falls = losses[-1][0] < 0.9 * losses[0][0] and losses[0][1] == losses[-1][1]
sys.exit(not (falls and list(found.values()) == [True, True, True, False, True, True]))
PY
