"""Environment folders as an author would write them."""

from __future__ import annotations

from pathlib import Path

PYPROJECT = """\
[project]
name = "{name}"
description = "Counts to ten."
version = "{version}"
tags = ["maths", "eval"]
requires-python = ">=3.11"
dependencies = []

[project.urls]
Homepage = "https://example.org/{name}"

[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[tool.hatch.build]
include = ["{module}.py", "pyproject.toml", "README.md", "extra/.hidden.json"]
"""

README = """\
# {name}

Counts to ten. Try it: prime eval run {name} -m baseline/random
"""

SERVER = """\
from fastapi import FastAPI

app = FastAPI()


@app.get("/health")
def health():
    return {"status": "ok"}


@app.get("/schema")
def schema():
    action = {"type": "object", "properties": {"action": {"type": "string"}}}
    return {"observation": {"type": "string"}, "action": action}


@app.post("/reset")
def reset(seed: int = 0):
    return {"observation": str(seed), "done": False}


@app.post("/step")
def step(action: dict):
    return {"observation": "", "reward": 1.0, "done": True}
"""

DOCKERFILE = """\
FROM python:3.11-slim
WORKDIR /app
COPY requirements.txt .
RUN pip install -r requirements.txt
COPY server.py .
CMD ["uvicorn", "server:app", "--host", "0.0.0.0", "--port", "8000"]
"""


def write_environment(base: Path, name: str = "my-env", version: str = "0.1.0") -> Path:
    """A standard environment, with files that belong to what is published and some that do not."""
    module = name.replace("-", "_")
    folder = base / module
    files = {
        "pyproject.toml": PYPROJECT.format(name=name, version=version, module=module),
        f"{module}.py": f"VERSION = {version!r}\n\n\ndef load_environment(**kwargs):\n    return 10\n",
        "README.md": README.format(name=name),
        "data/words.txt": "one\ntwo\n",
        "extra/.hidden.json": "{}\n",
        ".secret": "not published\n",
        "__pycache__/x.pyc": "not published\n",
    }
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    (folder / "data" / "blob.bin").write_bytes(bytes(range(256)))
    return folder


def write_openenv(base: Path, name: str = "my-game", version: str = "0.1.0") -> Path:
    """An OpenEnv environment of the flat layout, without a manifest."""
    folder = write_environment(base, name, version)
    proj = folder / "proj"
    proj.mkdir()
    (proj / "server.py").write_text(SERVER)
    (proj / "Dockerfile").write_text(DOCKERFILE)
    (proj / "requirements.txt").write_text("fastapi>=0.115,<1\nuvicorn>=0.30,<1\n")
    return folder


def tree(folder: Path) -> dict[str, bytes]:
    """Every file of a folder but the note of where it came from, by relative path."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".prime" not in path.relative_to(folder).parts
    }
