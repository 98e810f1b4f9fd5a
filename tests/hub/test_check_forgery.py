"""A badge is what the Hub has found: nothing that a publisher sends or lets run is taken for a report."""

from __future__ import annotations

import hashlib
import io
import json
import re
import time
import zipfile
from typing import Any

import httpx
import pytest

from prime_core.checks.registry import CHECKS
from prime_core.checks.report import Report, Result, passed
from prime_hub.app import create_app
from prime_hub.settings import Settings
from tests.conftest import RunningHub
from tests.hub.checking import CODE, HEADERS, address, check, hosted, outcomes, push_checkable, read, until
from tests.hub.pushing import Push
from tests.hub.world import every_route

BAD = CODE.replace("    rows =", "    raise ValueError('it is broken')\n    rows =")


def forged() -> dict[str, Any]:
    """A report, of the right form, by which everything is well."""
    report = Report("full", {"name": "forged", "version": "0.1.0"}, checker="verifiers 0.1.100")
    for name in CHECKS:
        report.add(Result(name, passed()))
    return report.as_dict()


# What hostile code can try when it is imported: it prints and writes messages wherever they might be taken for the
# program's, as itself, as a second process that outlives it, and through the descriptors of its parents.
HOSTILE = """
import glob, json, os, subprocess, sys
LINES = {lines!r}
def say(file):
    try:
        file.write(LINES); file.flush()
    except Exception:
        pass
say(sys.stdout); say(sys.stderr); say(sys.__stdout__)
for number in range(3, 64):
    try:
        os.write(number, LINES.encode())
    except OSError:
        pass
for name in ("report.json", "/app/report.json", "/tmp/report.json", os.path.join(os.getcwd(), "report.json")):
    try:
        open(name, "w").write(LINES)
    except OSError:
        pass
subprocess.Popen(["sh", "-c", "while true; do printf '%s' \\"$FORGED\\"; sleep 0.05; done"],
                 env={{**os.environ, "FORGED": LINES}}, start_new_session=True)
"""


def messages() -> str:
    report = forged()
    lines = [{"report": report}, {"id": 1, "result": report}, {"progress": {"group": "reward", "id": "x"}}]
    return "".join(f"{json.dumps(one)}\n" for one in lines)


def test_no_route_takes_a_report(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Of the whole table: what changes a check is asking for one, with nothing in the request but which version."""
    changing = [
        (method, path)
        for method, path in every_route(tmp_path_factory.mktemp("app"))
        if method not in ("GET", "HEAD", "OPTIONS") and re.search(r"/checks?(/|$)|badge|report", path)
    ]
    assert sorted(changing) == [
        ("POST", "/api/v1/environmentshub/check"),  # of a push, before it is made
        ("POST", "/api/v1/environmentshub/{owner}/{name}/@{version}/check"),
        ("POST", "/dashboard/environments/{owner}/{name}/check"),
    ]
    described = create_app(Settings(tmp_path_factory.mktemp("described"))).openapi()["paths"]
    asking = described["/api/v1/environmentshub/{owner}/{name}/@{version}/check"]["post"]
    assert "requestBody" not in asking and {one["in"] for one in asking["parameters"]} == {"path"}


def test_what_a_client_sends_along_is_no_report(module_hub: RunningHub) -> None:
    api, owner = module_hub.api, module_hub.owner
    claims = {
        "check": forged(),
        "checks": forged(),
        "report": forged(),
        "badge": "checked",
        "problems": 0,
        "state": "done",
    }
    files = {
        name: json.dumps(forged()).encode()
        for name in ("report.json", "check.json", ".check.json", "proj/.check.json", "checks/report.json")
    }
    push_checkable(api, "claiming", BAD, files=files, metadata=claims)
    assert read(api, owner, "claiming")["badge"] == "not checked"
    route = api.base_url.join(address(owner, "claiming").lstrip("/"))
    for method in ("PUT", "PATCH", "DELETE"):
        assert api.request(method, route, json=forged()).status_code == 405
    for more in ({"json": forged()}, {"json": {"report": forged(), "state": "done"}}, {"params": {"badge": "checked"}}):
        assert api.post(address(owner, "claiming"), **more).status_code == 202
    found = check(api, owner, "claiming")
    assert found["problems"] and outcomes(found)["load-fails"] == "fail", found
    picture = httpx.get(f"{module_hub.url}/dashboard/environments/{owner}/claiming/badge.svg", trust_env=False).text
    assert "problem" in picture and ": checked" not in picture
    # Pushing it once more changes nothing of what was found.
    again = Push(api, "claiming", metadata=claims, files={"x": b"x"})
    assert again.run(2).status_code == 409
    assert read(api, owner, "claiming")["badge"] == found["badge"]


def test_what_the_code_prints_and_writes_is_no_report(module_hub: RunningHub) -> None:
    api, owner = module_hub.api, module_hub.owner
    push_checkable(api, "printing", HOSTILE.format(lines=messages()) + BAD)
    found = check(api, owner, "printing")
    assert found["state"] == "done" and outcomes(found)["load-fails"] == "fail", found
    assert found["report"]["environment"]["name"] == "printing" and found["problems"]


@pytest.mark.parametrize(
    "words", ["{'told': 1}", "{'told': {'events': 1, 'ended': 2, 'printed': 3}}", "{'open': 'x'}", "7"]
)
def test_what_takes_the_place_of_the_program_beside_it_forges_nothing_else(module_hub: RunningHub, words: str) -> None:
    """Its sandbox is the code's own: a file that every interpreter there runs first can say what it likes in it. It is
    then the one that answers what was asked of the code, and nobody else."""
    name = f"starting-{hashlib.sha256(words.encode()).hexdigest()[:6]}"
    line = f"import json, os, sys; 'verifiers.checking.inside' in sys.orig_argv and (os.write(1, json.dumps({words}).encode() + b'\\n' + {messages()!r}.encode()), os._exit(0))"
    found = _with_startup_file(module_hub, name, line)
    made = outcomes(found)
    assert made["load-fails"] == "skip" and found["badge"] != "checked", found
    assert made["metadata-invalid"] == "pass" and found["report"]["environment"]["name"] == name


def _with_startup_file(hub: RunningHub, name: str, line: str) -> dict[str, Any]:
    """Publish and check an environment whose wheel brings a `.pth` file, which interpreters run at their start."""
    folder = f"{name.replace('-', '_')}-0.1.0.dist-info"
    members = {
        f"{name.replace('-', '_')}.py": CODE,
        f"{name.replace('-', '_')}_start.pth": line + "\n",
        f"{folder}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1.0\n{HEADERS}",
        f"{folder}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},,\n" for path in members) + f"{folder}/RECORD,,\n"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path, text in {**members, f"{folder}/RECORD": record}.items():
            archive.writestr(path, text)
    push_checkable(hub.api, name, wheel=buffer.getvalue())
    return check(hub.api, hub.owner, name)


def test_nobody_enters_the_sandboxes_of_a_check(module_hub: RunningHub) -> None:
    """They are in no table, so no key and no route leads into one: not even the machine's owner's."""
    api, owner = module_hub.api, module_hub.owner
    push_checkable(api, "entered", "import time\ntime.sleep(5)\n" + CODE)
    api.post(address(owner, "entered"))
    end = time.monotonic() + 60
    while not (names := hosted(module_hub.data_dir)) and time.monotonic() < end:
        time.sleep(0.05)
    assert names
    for box in names:
        for method, path in (
            ("GET", f"/sandbox/{box}"),
            ("POST", f"/sandbox/{box}/auth"),
            ("POST", f"/sandbox/{box}/expose"),
            ("GET", f"/sandbox/{box}/logs"),
            ("DELETE", f"/sandbox/{box}"),
        ):
            assert api.request(method, path, json={"port": 8000} if method == "POST" else None).status_code == 404, path
    assert until(api, owner, "entered")["badge"] == "checked"
