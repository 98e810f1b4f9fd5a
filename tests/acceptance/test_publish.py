"""Build, push, push again, pull and install, as the seed shows them."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

import httpx

from prime_core.packaging import archive_files


def copy_environment(machine, name: str, version: str, base: str) -> Path:
    """The example under another name of its own, so that tests do not meet each other's versions."""
    module = name.replace("-", "_")
    folder = machine.work / base / module
    shutil.copytree(
        machine.work / "environments" / "openenv_cartpole",
        folder,
        ignore=shutil.ignore_patterns(".build.json", ".prime"),
    )
    (folder / "openenv_cartpole.py").rename(folder / f"{module}.py")
    pyproject = folder / "pyproject.toml"
    text = pyproject.read_text().replace("openenv-cartpole", name).replace("openenv_cartpole", module)
    pyproject.write_text(re.sub(r'^version = ".*"$', f'version = "{version}"', text, flags=re.MULTILINE))
    return folder


def tree(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and ".prime" not in path.parts
    }


def test_the_seeds_lines_of_build_and_push_and_a_version_is_never_replaced(machine, owner):
    folder = copy_environment(machine, "cartpole-lines", "0.1.0", "environments")
    built = machine.run("vf-build", "cartpole-lines")
    assert built.stdout.splitlines() == [
        "Building image for 'cartpole-lines' with context='./environments/cartpole_lines/proj' dockerfile='Dockerfile' image='cartpole-lines:latest'",
        "Image build completed with status=ready",
        "Wrote ./environments/cartpole_lines/proj/.build.json",
    ]
    manifest = json.loads((folder / "proj" / ".build.json").read_text())
    assert manifest["contract"] == "gym" and manifest["port"] == 8000 and manifest["image_status"] == "ready"
    assert manifest["image"] == f"prime/{owner}/cartpole-lines:latest" and manifest["schema_version"] == 1

    pushed = machine.run("prime", "env", "push", "cartpole-lines")
    lines = pushed.stdout.splitlines()
    assert lines[:3] == [
        "Pushing environment cartpole-lines to Environments Hub...",
        "Uploading package...",
        "Successfully published cartpole-lines v0.1.0",
    ]
    page = lines[3].removeprefix("View at: ")
    assert page.endswith(f"/dashboard/environments/{owner}/cartpole-lines") and len(lines) == 4
    shown = httpx.get(page)
    assert (
        shown.status_code == 200 and "0.1.0" in shown.text and f"prime env install {owner}/cartpole-lines" in shown.text
    )

    again = machine.run("prime", "env", "push", "cartpole-lines", code=1)
    assert "Error: Version 0.1.0 already exists" in again.stderr.splitlines()

    # What is pulled is what was pushed, byte by byte, the hidden manifest included.
    machine.run("prime", "env", "pull", f"{owner}/cartpole-lines", "-t", "pulled")
    sent = {name: path.read_bytes() for name, path in archive_files(folder)}
    assert tree(machine.work / "pulled") == sent and "proj/.build.json" in sent

    pyproject = folder / "pyproject.toml"
    pyproject.write_text(pyproject.read_text().replace('version = "0.1.0"', 'version = "0.1.1"'))
    newer = machine.run("prime", "env", "push", "cartpole-lines")
    assert "Successfully published cartpole-lines v0.1.1" in newer.stdout
    info = json.loads(machine.run("prime", "env", "info", f"{owner}/cartpole-lines", "--output", "json").stdout)
    assert info["version"] == "0.1.1"


def test_a_push_builds_the_image_when_it_is_missing_or_the_project_changed(machine, owner):
    folder = copy_environment(machine, "cartpole-rebuilt", "0.1.0", "environments")
    refused = machine.run("prime", "env", "push", "cartpole-rebuilt", "--no-build", code=1)
    assert "Error: OpenEnv environment requires .build.json. Run 'vf-build' first." in refused.stderr

    first = machine.run("prime", "env", "push", "cartpole-rebuilt").stdout.splitlines()
    assert first[0].startswith("Building image for 'cartpole-rebuilt' with context=")
    assert first[1:3] == [
        "Image build completed with status=ready",
        "Wrote ./environments/cartpole_rebuilt/proj/.build.json",
    ]
    assert first[3] == "Pushing environment cartpole-rebuilt to Environments Hub..." and len(first) == 7

    digest = json.loads((folder / "proj" / ".build.json").read_text())["image_digest"]
    pyproject = folder / "pyproject.toml"
    pyproject.write_text(pyproject.read_text().replace('version = "0.1.0"', 'version = "0.1.1"'))
    unchanged = machine.run("prime", "env", "push", "cartpole-rebuilt").stdout.splitlines()
    assert unchanged[0].startswith("Pushing environment") and len(unchanged) == 4

    server = folder / "proj" / "server.py"
    server.write_text(server.read_text() + "\n# a changed project\n")
    pyproject.write_text(pyproject.read_text().replace('version = "0.1.1"', 'version = "0.1.2"'))
    changed = machine.run("prime", "env", "push", "cartpole-rebuilt").stdout.splitlines()
    assert changed[0].startswith("Building image for 'cartpole-rebuilt'")
    assert json.loads((folder / "proj" / ".build.json").read_text())["image_digest"] != digest


def test_two_openenv_environments_in_one_venv_do_not_overwrite_each_other(machine, published):
    code = "import openenv_cartpole as a, openenv_echo as b, pathlib; print(*[(pathlib.Path(m.__file__).parent / 'proj' / '.build.json').read_text() for m in (a, b)], sep='\\0')"
    shown = machine.run(str(published / "bin" / "python"), "-c", code, cwd=machine.base)
    cartpole, echo = (json.loads(text) for text in shown.stdout.split("\0"))
    assert cartpole["contract"] == "gym" and echo["contract"] == "mcp"
    top = {path.name for path in next(published.glob("lib/python*/site-packages")).iterdir()}
    assert not top & {"proj", "README.md", "pyproject.toml"}


def test_the_clean_venv_holds_our_verifiers(machine, published):
    code = "import verifiers, importlib.metadata as m; print(m.version('verifiers')); print(verifiers.__file__)"
    version, file = machine.run(str(published / "bin" / "python"), "-c", code, cwd=machine.base).stdout.splitlines()
    import importlib.metadata

    assert version == importlib.metadata.version("verifiers") and Path(file).is_relative_to(published)
    assert sys.prefix not in file
