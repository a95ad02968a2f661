"""What a bug report needs, and what is missing."""

from foster.doctor import examine


def test_doctor_names_what_is_missing(monkeypatch, network):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    found = examine()
    assert any("completejourney" in line for line in found["missing"])
    assert found["torch"]
    network.clear()  # the encoder is looked for on the hub
