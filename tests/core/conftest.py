"""A Hub that serves small stand-ins of our own distributions, and an index that offers 9.9 of every name."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from prime_core.api import APIClient
from prime_core.connection import Connection
from prime_core.interpreters import inspect
from prime_core.uv import run_uv
from prime_core.wheelhouse import OURS
from tests.core.support import Site, make_wheel, serve_index

OURS_SAY = "ours"
INDEX_SAYS = "index"


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder that Hubs of this module serve our own distributions from: small wheels that need no index."""
    folder = tmp_path_factory.mktemp("wheels")
    requires = {"verifiers": ("prime-core>=0.1", "prime-evals; extra == 'evals'"), "prime": ("verifiers",)}
    for name in OURS:
        make_wheel(folder, name, "0.1.100", requires.get(name, ()), says=OURS_SAY)
    before = os.environ.get("PRIME_HUB_WHEELS")
    os.environ["PRIME_HUB_WHEELS"] = str(folder)
    yield folder
    if before is None:
        del os.environ["PRIME_HUB_WHEELS"]
    else:
        os.environ["PRIME_HUB_WHEELS"] = before


@pytest.fixture(scope="module")
def small_hub(wheels: Path, request: pytest.FixtureRequest) -> Any:
    """A real Hub that serves those wheels."""
    return request.getfixturevalue("module_hub")


@pytest.fixture
def connection(small_hub: Any) -> Connection:
    return Connection(small_hub.url, small_hub.url, small_hub.token)


@pytest.fixture
def client(connection: Connection) -> Iterator[APIClient]:
    with APIClient(connection.base_url, connection.api_key) as client:
        yield client


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """The only index of uv and pip: 9.9 of every name of ours, and a third-party package `left-pad`."""
    folder = tmp_path / "index"
    for name in OURS:
        make_wheel(folder, name, "9.9", says=INDEX_SAYS)
    make_wheel(folder, "left-pad", "1.0", says=INDEX_SAYS)
    for name in list(os.environ):
        if name.startswith(("UV_", "PIP_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv-cache"))
    monkeypatch.setenv("UV_NO_CONFIG", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    with serve_index(folder) as site:
        monkeypatch.setenv("UV_DEFAULT_INDEX", site.url)
        monkeypatch.setenv("PIP_INDEX_URL", site.url)
        yield site


@dataclass
class Venv:
    """A virtual environment without any packages."""

    python: Path

    def versions(self) -> dict[str, str]:
        """Name → version of what is installed, pip and setuptools left out."""
        found = inspect(self.python).distributions
        return {name: item.version for name, item in sorted(found.items()) if name not in ("pip", "setuptools")}

    @property
    def site(self) -> Path:
        """Its site-packages."""
        return next(self.python.parent.parent.glob("lib/python*/site-packages"))

    def says(self, module: str) -> str:
        """Where the wheel of this module was made: `ours` or `index`."""
        text = (self.site / module / "__init__.py").read_text()
        return text.partition("SAYS = ")[2].strip().strip("'")


@pytest.fixture
def new_venv(tmp_path: Path) -> Callable[..., Venv]:
    """Make a virtual environment."""

    def make(name: str = "venv") -> Venv:
        done = run_uv(["venv", "--quiet", str(tmp_path / name)])
        assert done.returncode == 0, done.stderr
        return Venv(tmp_path / name / "bin" / "python")

    return make


@pytest.fixture
def venv(new_venv: Callable[..., Venv]) -> Venv:
    return new_venv()
