"""Wheels in the cache: whole under their hash, whoever else puts the same one there."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from prime_core.packaging import describe_wheel, sha256_of
from prime_core.wheel import write_wheel
from prime_core.wheelhouse import keep


def test_many_commands_may_keep_the_same_wheel_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    info = "same-1.0.dist-info"
    members = {
        "same.bin": os.urandom(1 << 20),
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: same\nVersion: 1.0\n",
    }
    write_wheel(tmp_path / "same-1.0-py3-none-any.whl", members, f"{info}/RECORD")
    wheel = describe_wheel(tmp_path / "same-1.0-py3-none-any.whl")
    together = threading.Barrier(8)

    def keep_it(_: int) -> Path:
        together.wait(10)
        return keep(wheel).path

    for number in range(25):
        monkeypatch.setenv("PRIME_CACHE_DIR", str(tmp_path / f"cache-{number}"))
        with ThreadPoolExecutor(8) as pool:
            (path,) = set(pool.map(keep_it, range(8)))
        assert sha256_of(path) == wheel.sha256
        assert [file.name for file in path.parent.iterdir()] == [path.name]
