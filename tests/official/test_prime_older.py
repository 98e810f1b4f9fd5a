"""The official `prime` 0.7.7, unmodified: the last that makes environments itself, as far as its commands go."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import RunningHub
from tests.official.command import Prime
from tests.official.environments import content_hash, taken, write

pytestmark = [pytest.mark.index]


@pytest.fixture
def prime(module_hub: RunningHub, home: Path) -> Prime:
    return Prime(module_hub, home, version="0.7.7")


def test_what_it_makes_is_published(module_hub: RunningHub, prime: Prime, tmp_path: Path) -> None:
    me = module_hub.owner
    prime("env", "init", "made-words", "--path", str(tmp_path))
    folder = tmp_path / "made_words"
    assert {"made_words.py", "pyproject.toml", "README.md"} <= {path.name for path in folder.iterdir()}
    assert f"Successfully pushed {me}/made-words" in prime("env", "push", "--path", str(folder))
    (row,) = prime.json("env", "list", "--search", "made-words", "--output", "json")["environments"]
    assert row["environment"] == f"{me}/made-words" and row["version"] == "0.1.0"


def test_from_push_to_delete(module_hub: RunningHub, prime: Prime, tmp_path: Path) -> None:
    me = module_hub.owner
    name, folder = f"{me}/old-words", write(tmp_path / "old_words", "old-words")
    assert me in prime("whoami")
    assert f"Created environment: {name}" in prime("env", "push", "-p", str(folder), "-v", "PUBLIC")
    again = prime("env", "push", "-p", str(folder), code=1)
    assert "HTTP 409" in again and "--auto-bump" in again
    assert "Successfully pushed" in prime("env", "push", "-p", str(folder), "--auto-bump")
    files = taken(folder, "old-words")
    assert f"{me}/simple/" in prime("env", "info", name)
    assert "0.1.1" in prime("env", "status", name)
    assert "comes out reversed" in prime("env", "inspect", name, "README.md")
    said = prime("env", "version", "list", name, "--full-hashes")
    assert said.index("0.1.1") < said.index("0.1.0") and content_hash(files)[:8] in said
    prime("env", "pull", name, "-t", str(tmp_path / "pulled"))
    assert {path: (tmp_path / "pulled" / path).read_bytes() for path in files} == files
    assert json.loads((tmp_path / "pulled" / ".prime" / ".env-metadata.json").read_text())["owner"] == me
    prime("env", "secret", "create", name, "-n", "A_B", "-v", "x-value")
    listed = prime("env", "secret", "list", name)
    assert "A_B" in listed and "x-value" not in listed
    forker = Prime(module_hub, prime.home, version="0.7.7", token=module_hub.add_user("old-forker"))
    assert "old-forker/old-words" in forker("fork", name)
    assert "deleted successfully" in prime("env", "version", "delete", name, content_hash(files), "--force")
    assert "deleted successfully" in prime("env", "delete", name, "--force")
    assert "HTTP 404" in prime("env", "info", name, code=1)
