"""The cache of virtual environments: what is put anew while somebody takes it is taken all the same."""

from __future__ import annotations

import threading
from pathlib import Path

from prime_hub.runner.building.layers import Layers


def _environment(folder: Path, text: str) -> Path:
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").write_text(text)
    return folder


def test_a_layer_that_is_being_replaced_is_waited_for(tmp_path: Path, monkeypatch) -> None:
    layers = Layers(tmp_path / "layers")
    layers.keep("key", _environment(tmp_path / "first", "first"))
    there, aside = tmp_path / "layers" / "key", tmp_path / "layers" / ".aside"
    real = layers.has

    def replaced_just_then(key: str) -> bool:
        found = real(key)
        there.rename(aside)
        threading.Timer(0.1, lambda: aside.rename(there)).start()
        return found

    monkeypatch.setattr(layers, "has", replaced_just_then)
    assert layers.take("key", tmp_path / "taken")
    assert (tmp_path / "taken" / "bin" / "python").read_text() == "first"


def test_a_layer_that_is_gone_is_not_there(tmp_path: Path) -> None:
    layers = Layers(tmp_path / "layers")
    assert not layers.take("key", tmp_path / "taken")
    layers.keep("key", _environment(tmp_path / "first", "first"))
    assert layers.take("key", tmp_path / "taken")
