"""The official SDKs, sync and async, as clients of our Hub; what they are made to do is in `cases.py`."""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import RunningHub
from tests.hub.images import build
from tests.official.conftest import python_with

CASES = Path(__file__).with_name("cases.py")
VERSIONS = ("0.2.24", "0.2.42", "0.5.1")
FACES = ("sync", "async")
NAMES = re.findall(r"^async def case_(\w+)", CASES.read_text(), re.MULTILINE)
MISSING = {
    "0.2.24": {"statuses", "idempotent", "network", "not_supported", "processes", "processes_outlive_a_hub"},
    "0.2.42": {"not_supported"},
    "0.5.1": {"ports"},
}
"""What a version has not; the sync face has no processes either."""
SECONDS = 400


def run_cases(hub: RunningHub, home: Path, version: str, face: str) -> dict[str, dict[str, Any]]:
    """What became of each case, by its name."""
    python = python_with(f"prime-sandboxes=={version}")
    info = hub.wait_for_runner()
    enforces = info.get("enforces") or []
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "PRIME_API_BASE_URL": hub.url,
        "PRIME_API_KEY": hub.token,
        "TRY_IMAGE": "tiny:latest",
        "TRY_ENFORCES": ",".join(enforces),
    }
    found: dict[str, dict[str, Any]] = {}
    with subprocess.Popen(
        [python, CASES, face], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        stderr: list[str] = []
        reader = threading.Thread(target=lambda: stderr.extend(process.stderr or ()))
        reader.start()
        alarm = threading.Timer(SECONDS, process.kill)
        alarm.start()
        for line in process.stdout:
            told = json.loads(line)
            if told.get("restart"):
                hub.close_clients()
                hub.kill()
                hub.start()
                process.stdin.write("\n")
                process.stdin.flush()
            else:
                found[told["case"]] = told
        code = process.wait()
        alarm.cancel()
        reader.join()
    assert code == 0, "".join(stderr)[-4000:]
    return found


@pytest.fixture(scope="module")
def hub_with_image(module_hub: RunningHub) -> RunningHub:
    assert build(module_hub.api)["status"] == "COMPLETED"
    return module_hub


_done: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}


@pytest.fixture
def told(
    request: pytest.FixtureRequest, hub_with_image: RunningHub, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, Any]]:
    """What became of the cases with one version and face; run once."""
    version, face = request.node.callspec.params["version"], request.node.callspec.params["face"]
    if (version, face) not in _done:
        home = tmp_path_factory.mktemp("client")
        _done[version, face] = run_cases(hub_with_image, home, version, face)
    return _done[version, face]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("version", VERSIONS)
def test_official_sdk(version: str, face: str, name: str, told: dict[str, dict[str, Any]]) -> None:
    case = told[name]
    assert case["error"] is None, case["error"]
    missing = name in MISSING[version] or (face == "sync" and name.startswith("processes"))
    assert (case["skipped"] is not None) == missing, case
