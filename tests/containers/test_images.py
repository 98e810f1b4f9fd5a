"""Images by a container engine: what is sent, what is said, what is left."""

from __future__ import annotations

import io
import json
import shutil
import socket
import subprocess
import tarfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from prime_hub.runner.runtimes.conformance import Host
from tests.containers.conftest import Engine, Hosts, owner

SLEEPS = 'CMD ["sleep", "600"]\n'


def archive(folder: Path, files: dict[str, str], *, link: tuple[str, str] | None = None) -> Path:
    target = folder / f"{uuid.uuid4().hex}.tar.gz"
    with tarfile.open(target, "w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content.encode())
            tar.addfile(member, io.BytesIO(content.encode()))
        if link is not None:
            member = tarfile.TarInfo(link[0])
            member.type, member.linkname = tarfile.SYMTYPE, link[1]
            tar.addfile(member)
    return target


def begin(host: Host, context: Path, **fields: object) -> str:
    build = uuid.uuid4().hex
    host.call("POST", "/builds", {"id": build, "context": str(context), **fields})
    return build


def built(host: Host, context: Path, **fields: object) -> dict:
    build = begin(host, context, **fields)
    state = host.call("GET", f"/builds/{build}?wait=110")
    return {**state, "log": host.call("GET", f"/builds/{build}/log")["text"]}


def ours(engine: Engine, host: Host) -> set[str]:
    """The tags of this runner's images, those of builds included."""
    return {
        tag
        for image in engine.get("/images/json")
        for tag in image["RepoTags"] or []
        if f"/prime-{owner(engine, host)}/" in tag
    }


def test_dockerignore(host: Host, tmp_path: Path) -> None:
    files = {
        "Dockerfile": f"FROM python:3.11-slim\nWORKDIR /app\nCOPY . .\n{SLEEPS}",
        ".dockerignore": "secret*\nlogs/**\n!logs/kept.txt\nDockerfile\n",
        "secret.txt": "no",
        "logs/a.txt": "no",
        "logs/kept.txt": "yes",
        "app.py": "yes",
    }
    state = built(host, archive(tmp_path, files))
    assert state["status"] == "ready", state
    with host.sandbox(digest=state["digest"]) as box:
        found = host.shell(box, "find . -type f | sort")["stdout"].split()
    assert "./app.py" in found and "./logs/kept.txt" in found
    assert "./secret.txt" not in found and "./logs/a.txt" not in found


def test_no_cache_runs_again(host: Host, tmp_path: Path) -> None:
    files = {"Dockerfile": f"FROM python:3.11-slim\nRUN head -c 8 /dev/urandom | od -x > /made\n{SLEEPS}"}
    first, again = built(host, archive(tmp_path, files)), built(host, archive(tmp_path, files))
    fresh = built(host, archive(tmp_path, files), no_cache=True)
    assert first["digest"] == again["digest"] != fresh["digest"], (first, again, fresh)


def test_a_failing_step_is_shown(engine: Engine, host: Host, tmp_path: Path) -> None:
    before = ours(engine, host)
    files = {"Dockerfile": "FROM python:3.11-slim\nRUN echo something useful; echo the reason >&2; exit 3\n"}
    state = built(host, archive(tmp_path, files))
    assert state["status"] == "failed"
    assert "the reason" in state["error"] and "something useful" in state["log"]
    assert "3" in state["error"]
    state = built(host, archive(tmp_path, {"Dockerfile": "FROM python:3.11-slim\nNONSENSE\n"}))
    assert state["status"] == "failed" and "nonsense" in state["error"].lower()
    state = built(host, archive(tmp_path, {"Dockerfile": "FROM registry.invalid/none:1\n"}))
    assert state["status"] == "failed" and "registry.invalid" in state["error"]
    assert ours(engine, host) == before


def test_a_context_that_reaches_out_is_refused(host: Host, tmp_path: Path) -> None:
    state = built(host, archive(tmp_path, {"Dockerfile": "FROM scratch\n", "../out": "x"}))
    assert state["status"] == "failed" and "outside of itself" in state["error"]
    state = built(host, archive(tmp_path, {"other": "x"}))
    assert state["status"] == "failed" and state["error"] == "The build context has no Dockerfile."


def test_a_cancelled_build_leaves_nothing(engine: Engine, host: Host, tmp_path: Path) -> None:
    before = ours(engine, host)
    containers = {item["Id"] for item in engine.get("/containers/json", status=["running"])}
    mark = f"7{uuid.uuid4().int % 10**8:08}"
    files = {"Dockerfile": f"FROM python:3.11-slim\nRUN echo begun && sleep {mark}\n"}
    build = begin(host, archive(tmp_path, files))
    host.until("the step runs", lambda: sleeping(mark))
    assert host.call("DELETE", f"/builds/{build}")["status"] == "cancelled"
    host.until("its step was ended", lambda: not sleeping(mark))
    assert ours(engine, host) == before
    host.until(
        "no container of it is left",
        lambda: {item["Id"] for item in engine.get("/containers/json", status=["running"])} <= containers,
    )


def sleeping(seconds: str) -> list[str]:
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                if (folder / "cmdline").read_bytes().split(b"\0")[:2] == [b"sleep", seconds.encode()]:
                    found.append(folder.name)
            except OSError:
                continue
    return found


def test_an_image_without_a_shell(host: Host, tmp_path: Path) -> None:
    dockerfile = """FROM python:3.11-slim AS tools
FROM scratch
COPY --from=tools /bin/busybox /busybox
ENTRYPOINT ["/busybox"]
CMD ["sleep", "600"]
"""
    state = built(host, archive(tmp_path, {"Dockerfile": dockerfile}))
    assert state["status"] == "ready", state
    with host.sandbox(digest=state["digest"]) as box:
        ran = host.run(box, "/busybox", "echo", "words")
        assert (ran.stdout, ran.exit_code) == (b"words\n", 0), ran
        assert host.run(box, "/busybox", "cat", stdin=b"given").stdout == b"given"
        assert "no shell" in host.refused(422, "POST", f"/sandboxes/{box}/exec", {"command": "true"})


def test_an_image_without_bash_has_its_sh(host: Host, tmp_path: Path) -> None:
    dockerfile = f"FROM python:3.11-slim\nRUN rm /bin/bash\n{SLEEPS}"
    state = built(host, archive(tmp_path, {"Dockerfile": dockerfile}))
    with host.sandbox(digest=state["digest"]) as box:
        assert host.shell(box, "echo $0; exit 4")["exit_code"] == 4


def test_a_read_only_image(engine: Engine, host: Host, tmp_path: Path) -> None:
    dockerfile = f"FROM python:3.11-slim\nLABEL prime.read-only=true\nWORKDIR /app\n{SLEEPS}"
    state = built(host, archive(tmp_path, {"Dockerfile": dockerfile}))
    with host.sandbox(digest=state["digest"]) as box:
        assert engine.inspect(box)["HostConfig"]["ReadonlyRootfs"]
        assert host.shell(box, "echo x > /app/file")["exit_code"] != 0
        assert host.shell(box, "echo x > /tmp/file && cat /tmp/file")["stdout"] == "x\n"
        host.call("PUT", f"/sandboxes/{box}/files", params={"path": "/tmp/put"}, content=b"seen")
        assert host.shell(box, "cat /tmp/put")["stdout"] == "seen"


def test_anonymous_volumes_go(engine: Engine, host: Host, tmp_path: Path) -> None:
    def volumes() -> set[str]:
        return {volume["Name"] for volume in engine.get("/volumes")["Volumes"] or []}

    before = volumes()
    state = built(host, archive(tmp_path, {"Dockerfile": f"FROM python:3.11-slim\nVOLUME /data\n{SLEEPS}"}))
    with host.sandbox(digest=state["digest"]):
        assert volumes() - before
    assert volumes() == before


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An OCI registry on loopback that asks for a name and a password."""
    program = shutil.which("docker-registry")
    if program is None:
        pytest.skip("docker-registry is not installed")
    folder = tmp_path_factory.mktemp("registry")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (folder / "htpasswd").write_text(HTPASSWD)
    (folder / "config.yml").write_text(
        f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {folder}/data}}}}\n"
        f"http: {{addr: '127.0.0.1:{port}'}}\n"
        f"auth: {{htpasswd: {{realm: test, path: {folder}/htpasswd}}}}\n"
    )
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, "serve", str(folder / "config.yml")], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                assert httpx.get(f"http://127.0.0.1:{port}/v2/").status_code == 401
                break
            except httpx.TransportError:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


# testing / a-password
HTPASSWD = "testing:$2b$05$abcdefghijklmnopqrstuubsRD.Ffj/ka0r3BpAjv57rF8oK.y5YW\n"


def test_push_and_fetch(
    engine: Engine, hosts: Hosts, registry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "docker"
    config.mkdir()
    monkeypatch.setenv("DOCKER_CONFIG", str(config))
    host = hosts()
    state = built(host, archive(tmp_path, {"Dockerfile": f"FROM python:3.11-slim\nENV PUSHED=yes\n{SLEEPS}"}))
    reference = f"{registry}/team/{engine.name}:1"
    sentence = publish(host, state["digest"], reference, ok=False)
    assert "docker login" in sentence and "a-password" not in sentence
    authorization = "dGVzdGluZzphLXBhc3N3b3Jk"
    (config / "config.json").write_text(json.dumps({"auths": {registry: {"auth": authorization}}}))
    publish(host, state["digest"], reference)
    host.call("DELETE", f"/images/{state['digest']}")
    assert reference not in {tag for image in engine.get("/images/json") for tag in image["RepoTags"] or []}
    found = host.call("POST", "/images/fetch", {"reference": reference})
    assert found["config"]["env"]["PUSHED"] == "yes"
    assert authorization not in host.log() and "a-password" not in host.log()
    assert "none-such" in host.refused(404, "POST", "/images/fetch", {"reference": f"{registry}/none-such:1"})
    own = next(tag for tag in ours(engine, host) if "/image:" in tag)
    assert "by its digest" in host.refused(404, "POST", "/images/fetch", {"reference": own})


def publish(host: Host, digest: str, reference: str, *, ok: bool = True) -> str:
    answer = host.send("POST", f"/images/{digest}/publish", json={"reference": reference})
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert any("error" in line for line in lines) != ok, answer.text
    return answer.text
