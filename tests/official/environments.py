"""A published environment for the official command, written by hand: it makes none itself (hub.md §0)."""

from __future__ import annotations

import hashlib
from pathlib import Path

PYPROJECT = """[project]
name = "{name}"
version = "{version}"
description = "Reverses a word"
requires-python = ">=3.10"
tags = ["train", "eval", "words"]
dependencies = []

[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[tool.hatch.build]
include = ["*.py", "pyproject.toml", "README.md", "data/**"]
"""
MODULE = '''"""Reverses a word."""

ANSWER = {answer!r}


def load_environment():
    return ANSWER
'''

# What the official command leaves out of an archive, and what it takes (hub.md §3.2).
TAKEN = ("README.md", "data/words.txt", "pyproject.toml")
LEFT_OUT = (".gitignore", "build/old.txt", "data/.hidden", "notes.txt", "outputs/run.json", "secret.log")


def write(folder: Path, name: str, version: str = "0.1.0", answer: str = "one") -> Path:
    """A project in `folder`, with files that are to be published and files that are not."""
    module = name.replace("-", "_")
    files = {
        "pyproject.toml": PYPROJECT.format(name=name, version=version),
        f"{module}.py": MODULE.format(answer=answer),
        "README.md": f"# {name}\n\nA word goes in, and comes out reversed.\n",
        "data/words.txt": "abc\n",
        ".gitignore": "*.log\n",
        "build/old.txt": "old\n",
        "data/.hidden": "hidden\n",
        "notes.txt": "notes\n",
        "outputs/run.json": "{}\n",
        "secret.log": "a log\n",
    }
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return folder


def taken(folder: Path, name: str) -> dict[str, bytes]:
    """The files of `write` that belong to an archive, by their paths."""
    return {path: (folder / path).read_bytes() for path in sorted([*TAKEN, f"{name.replace('-', '_')}.py"])}


def content_hash(files: dict[str, bytes]) -> str:
    """SHA-256 over `file:<path>` and the bytes of each file, in order of the paths (hub.md §3.2)."""
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(f"file:{path}".encode() + files[path])
    return digest.hexdigest()
