"""Versions that a Hub can check, pushed as any client pushes, and waiting for their checks."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import httpx

from tests.conftest import RunningHub
from tests.hub.pushing import Push, make_wheel

PYPROJECT = """[project]
name = "{name}"
version = "{version}"
description = "Says the word again."
tags = ["reasoning", "eval", "easy", "single-turn"]
requires-python = ">=3.11"
dependencies = ["verifiers>=0.1,<0.2"]
"""
README = "# {name}\n\nSays the word again.\n\n    prime eval run {name} -m baseline/random -n 5\n"
CODE = """
import verifiers as vf


def load_environment():
    rows = [{"question": f"Say the number {number}.", "answer": str(number)} for number in range(4)]
    return vf.SingleTurnEnv(dataset=rows, rubric=vf.Rubric(funcs=[said]))


def said(completion, answer, **kwargs):
    return 1.0 if completion[-1]["content"].strip() == answer else 0.0
"""
HEADERS = "Requires-Dist: verifiers<0.2,>=0.1\nRequires-Python: >=3.11\n"
GOING = ("queued", "running")


def push_checkable(
    client: httpx.Client, name: str, code: str = CODE, version: str = "0.1.0", headers: str = HEADERS, **options: Any
) -> Push:
    """Publish an environment without a server whose module is `code`."""
    files = {
        "pyproject.toml": PYPROJECT.format(name=name, version=version).encode(),
        "README.md": README.format(name=name).encode(),
        f"{name.replace('-', '_')}.py": code.encode(),
        **options.pop("files", {}),
    }
    wheel = options.pop("wheel", None) or make_wheel(name, version, code, headers)
    one = Push(client, name, version, files=files, wheel=wheel, **options)
    answer = one.run()
    assert answer.status_code == 200, answer.text
    return one


def address(owner: str, name: str, version: str = "latest") -> str:
    """The route of a version's check."""
    return f"/environmentshub/{owner}/{name}/@{version}/check"


def read(client: httpx.Client, owner: str, name: str, version: str = "latest", **params: Any) -> dict[str, Any]:
    """The check as it is."""
    answer = client.get(address(owner, name, version), params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


def until(client: httpx.Client, owner: str, name: str, *states: str, version: str = "latest") -> dict[str, Any]:
    """The check, once it is in one of these states (default: one in which it has ended)."""
    end = time.monotonic() + 240
    while time.monotonic() < end:
        found = read(client, owner, name, version, wait=10)
        if found["state"] in states or (not states and found["state"] not in (*GOING, "none")):
            return found
    raise AssertionError(f"it is {found['state']} ({found['progress']})")


def check(client: httpx.Client, owner: str, name: str, version: str = "latest") -> dict[str, Any]:
    """Have it checked, and wait for that."""
    answer = client.post(address(owner, name, version))
    assert answer.status_code == 202, answer.text
    return until(client, owner, name, version=version)


def outcomes(found: dict[str, Any]) -> dict[str, str]:
    """The outcome of each check of a report."""
    return {one["id"]: one["outcome"] for one in found["report"]["checks"]}


def hosted(data_dir: Path) -> list[str]:
    """The sandboxes of a Hub's own that its runner has."""
    folder = data_dir / "runner" / "sandboxes"
    return [one.name for one in folder.iterdir() if one.name.startswith("hosted-")] if folder.is_dir() else []


def gone(hub: RunningHub) -> None:
    """Nothing of the Hub's own runs any more. What a Hub that was killed has left may be another's, where others share the
    runner: then it lasts as long as its lease.
    """
    end = time.monotonic() + 150
    while hosted(hub.data_dir) and time.monotonic() < end:
        time.sleep(0.1)
    assert hosted(hub.data_dir) == []
