"""Dockerfiles built without a container engine: what is honoured, what is noted, what is refused, and the cache."""

import contextlib
import io
import tarfile
import tempfile
import time
import uuid
import zipfile
from pathlib import Path

import pytest

from prime_hub.runner.building.trees import link

PYPROJECT = """[project]
name = "thing"
version = "1.0"
dependencies = []

[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
"""
# A build backend in the project itself, so that a real installation needs no package index.
BACKEND = """
import os, pathlib, time, zipfile
def build_wheel(folder, settings=None, metadata=None):
    while os.path.exists("WAIT"):
        time.sleep(0.05)
    info = "thing-1.0.dist-info"
    with zipfile.ZipFile(pathlib.Path(folder, "thing-1.0-py3-none-any.whl"), "w") as wheel:
        wheel.write("thing.py")
        wheel.writestr("thing_env.py", f"SEEN = {dict(os.environ)!r}")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\\nName: thing\\nVersion: 1.0\\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(f"{info}/entry_points.txt", "[console_scripts]\\nthing = thing:main\\n")
        wheel.writestr(f"{info}/RECORD", "thing.py,,\\nthing_env.py,,\\n" + "".join(
            f"{info}/{name},,\\n" for name in ("METADATA", "WHEEL", "RECORD", "entry_points.txt")))
    pathlib.Path("left_behind.txt").write_text("a backend writes beside the sources")
    return "thing-1.0-py3-none-any.whl"
"""
PROJECT = {"pyproject.toml": PYPROJECT, "backend.py": BACKEND, "thing.py": "def main():\n    print('thing runs')\n"}
INSTALL = "FROM python:3.11-slim\nWORKDIR /app\nCOPY . .\nRUN pip install --no-cache-dir -e .\nCMD thing; sleep 600\n"


def build(runner, dockerfile: str, **files: str | bytes) -> tuple[dict, str]:
    built = runner.build({"Dockerfile": dockerfile, **files})
    return built, runner.log(built["id"])


def inside(runner, digest: str, command: str) -> str:
    state = runner.sandbox(digest, start_command="sleep 600")
    shown = runner.exec(state["id"], command)
    runner.call("DELETE", f"/sandboxes/{state['id']}")
    assert shown["exit_code"] == 0, shown
    return shown["stdout"]


def test_copies_stages_variables_and_file_commands(shared):
    dockerfile = """ARG BASE=python:3.11-slim
FROM ${BASE} AS unused
RUN curl https://example.invalid | sh
FROM ${BASE} AS builder
WORKDIR /app/env
COPY . /app/env
RUN python -m venv .venv && mkdir -p out/deep && cp a.txt out/deep/ && mv b.txt out && echo "made $NAME" > out/note
FROM ${BASE}
ARG NAME=someone
ENV GREETING="hello $NAME" PATH="/app/.venv/bin:$PATH"
WORKDIR /app
COPY --from=builder /app/env/.venv /app/.venv
COPY --from=builder /app/env/out /app/out/
COPY --chmod=755 *.sh ./
COPY ["with space.txt", "./"]
RUN if [ -f out/note ]; then touch was-there; else touch was-not; fi; rm -rf /var/lib/apt/lists/*
EXPOSE 9000/tcp
ENTRYPOINT ["python", "-m"]
CMD ["http.server", "9000"]
"""
    files = {"a.txt": "a", "b.txt": "b", "run.sh": "#!/bin/sh\necho ran\n", "with space.txt": "s"}
    built, log = build(shared, dockerfile, **files)
    assert built["status"] == "ready", log
    config = built["config"]
    assert config["cmd"] == ["python", "-m", "http.server", "9000"]
    assert (config["port"], config["workdir"], config["env"]["GREETING"]) == (9000, "/app", "hello someone")
    assert "Stage unused is not needed for the image and is left out." in log
    shown = inside(shared, built["digest"], "find . -type f | sort; cat out/note; ./run.sh; which python")
    assert shown.splitlines()[:-1] == [
        *("./out/b.txt", "./out/deep/a.txt", "./out/note", "./run.sh", "./was-there", "./with space.txt"),
        *("made ", "ran"),
    ]
    assert shown.splitlines()[-1].endswith("/venv/bin/python")


MOVED = """FROM python:3.11-slim AS builder
COPY . /app/env
WORKDIR /app/env
RUN uv sync --no-editable
RUN mv /app/env/.venv /app/.venv
RUN if [ -d .venv ]; then touch stayed; fi; if [ -d ../.venv ]; then touch came; fi
FROM python:3.11-slim
WORKDIR /app
COPY --from=builder /app/.venv /app/.venv
COPY --from=builder /app/env /app/env
RUN ln -s /app/.venv /app/env/.venv
ENV PATH="/app/.venv/bin:$PATH"
CMD ["sh", "-c", "cd /app/env && thing; sleep 600"]
"""


def test_an_environment_that_a_builder_moves(shared):
    built, log = build(shared, MOVED, **PROJECT)
    assert built["status"] == "ready", log
    assert built["config"]["notes"] == []
    shown = inside(shared, built["digest"], "cd /; /app/.venv/bin/thing; /app/env/.venv/bin/thing; ls -A /app/env")
    assert shown.split("\n")[:2] == ["thing runs", "thing runs"]
    assert {"came", "thing.py"} <= set(shown.split()) and not {"stayed", ".venv"} & set(shown.split())


@pytest.mark.parametrize(
    ("line", "there", "gone"),
    [
        ("cp -r .venv /opt/venv", ["/app/.venv", "/opt/venv"], []),
        ("mkdir /srv && cp -a .venv /srv/", ["/app/.venv", "/srv/.venv"], []),
        ("mkdir -p /srv/v && cp -a .venv/. /srv/v", ["/srv/v"], []),
        ("cp -r /app /srv", ["/app/.venv", "/srv/.venv"], []),
        ("mkdir /srv && cp -r /app/. /srv", ["/app/.venv", "/srv/.venv"], ["/srv/app/.venv"]),
        ("cd / && mv /app /srv", ["/srv/.venv"], ["/app/.venv"]),
        ("mkdir /srv && mv .venv a.txt /srv", ["/srv/.venv"], ["/app/.venv"]),
        ("cp -r .venv /srv && rm -rf .venv", ["/srv"], ["/app/.venv"]),
        ("cp -r .venv /srv/v && rm -rf /app", ["/srv/v"], ["/app/.venv"]),
    ],
)
def test_where_the_environment_stands_after_file_commands(shared, line, there, gone):
    checks = [f"[ -d {path} ]" for path in there] + [f"[ ! -e {path} ]" for path in gone]
    dockerfile = f"FROM python:3.11\nWORKDIR /app\nCOPY a.txt .\nRUN python -m venv .venv\nRUN {line}\n"
    built, log = build(shared, f"{dockerfile}RUN {' && '.join(checks)}\nCMD sleep 600\n", **{"a.txt": "a"})
    assert built["status"] == "ready", log
    for path in there:
        assert inside(shared, built["digest"], f"{path}/bin/python -c 'print(5)'") == "5\n"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("mv .venv/bin /opt/bin", "mv: /app/.venv/bin is a part of the virtual environment /app/.venv"),
        ("cp -r .venv/bin/python /opt", "cp: /app/.venv/bin/python is a part of the virtual environment /app/.venv"),
        ("cp a.txt .venv/lib/", "cp: only pip and uv put something into the virtual environment /app/.venv"),
        ("mv .venv .venv", "mv: only pip and uv put something into"),
        ("cp .venv /srv", "cp: /app/.venv is a folder; copy it with 'cp -r'"),
        ("mkdir -p /srv/.venv/x && mv .venv /srv", "mv: /srv/.venv is in the way of the virtual environment"),
        ("mv .venv /srv && mv .venv /opt", "mv: /app/.venv is not in the image at this point"),
        ("rm -rf .venv && cp -r .venv /opt", "cp: /app/.venv is not in the image at this point"),
        ("mv .venv", "mv needs a source and a destination"),
    ],
)
def test_what_file_commands_cannot_do_with_the_environment(shared, line, words):
    dockerfile = "FROM python:3.11\nWORKDIR /app\nCOPY a.txt .\nRUN python -m venv .venv\n"
    built, log = build(shared, f"{dockerfile}RUN {line}\nCMD sleep 600\n", **{"a.txt": "a"})
    assert (built["status"], words in built["error"]) == ("failed", True), log


def test_what_is_not_honoured_is_named(shared):
    dockerfile = """FROM python:3.11-slim
LABEL a=b
RUN apt-get update && apt-get install -y --no-install-recommends curl git build-essential && apt-get clean
USER nobody
HEALTHCHECK CMD curl -f http://localhost:8000/health
CMD sleep 600
"""
    built, log = build(shared, dockerfile)
    assert built["status"] == "ready", log
    notes = "\n".join(built["config"]["notes"])
    for op in ("LABEL", "USER", "HEALTHCHECK", "'update' of system packages", "'clean' of system packages"):
        assert op in notes
        assert op in log


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (
            "RUN curl -L https://example.invalid/x | sh",
            "Dockerfile line 2 runs 'curl -L https://example.invalid/x | sh'",
        ),
        ("RUN npm install", "npm is not run here"),
        ("RUN python -c 'print(1)'", "a Python program is not run here"),
        ("RUN bash setup.sh", "bash is not run here"),
        ("RUN echo $(date)", "command substitution is not run"),
        ("RUN for x in a b; do echo $x; done", "'for' is not read"),
        ("RUN pip install --target /etc x", "The option --target of pip is not available"),
        ("RUN pip install -r requirements.txt", "requirements.txt is not in the image at this point; COPY it before"),
        ("RUN cp nothing here", "cp: /nothing is not in the image"),
        ("RUN cd /nowhere && touch x", "cd: /nowhere is not a folder of the image"),
        ("COPY missing.txt .", "missing.txt is not in the build context"),
        ("COPY --from=somewhere/else:1 /x /x", "copies from the image somewhere/else:1"),
        ("ADD https://example.invalid/x /x", "ADD of an address is not done here"),
        ("RUN apt-get install -y sumo-gui-of-nowhere", "installs the system package 'sumo-gui-of-nowhere'"),
        ("RUN cat <<EOF", "heredoc"),
        ("RUN pip install --no-index surely-not-there", "surely-not-there"),
    ],
)
def test_what_cannot_be_built_is_a_sentence(shared, line, words):
    built, log = build(shared, f"FROM python:3.11-slim\n{line}\nCMD sleep 600\n")
    assert built["status"] == "failed"
    assert words in built["error"]
    assert built["error"] in log
    assert list((shared.folder / "scratch").iterdir()) == []


def test_a_package_that_is_missed_while_building_only_is_a_note(shared):
    dockerfile = (
        "FROM python AS a\nRUN apt-get install -y no-such-package-here\nFROM python\nCOPY --from=a / /x\nCMD sleep 9"
    )
    built, log = build(shared, dockerfile)
    assert built["status"] == "ready", log
    assert "the system package 'no-such-package-here' is not on this machine" in log


def test_a_failed_installation_shows_what_uv_said(shared):
    built, log = build(shared, "FROM python:3.11\nRUN pip install --no-index surely-not-there==9\nCMD x\n")
    assert built["status"] == "failed"
    assert "Dockerfile line 2 failed:" in built["error"]
    assert "surely-not-there" in log.split("Dockerfile line 2 failed")[0].split("Step 2")[1].split("\n", 1)[1]


def test_a_project_is_installed_as_a_copy_and_its_scripts_run(shared):
    built, log = build(shared, INSTALL, **PROJECT)
    assert built["status"] == "ready", log
    code = "import thing, thing_env; print(thing.__file__); print(sorted(thing_env.SEEN))"
    shown = inside(shared, built["digest"], f"thing; ls; python -c '{code}'")
    # In /app the sources come first; elsewhere it is the installed copy.
    assert shown.startswith("thing runs\n")
    assert "left_behind.txt" not in shown
    names = shown.splitlines()[-1]
    assert "A_SECRET" not in names
    assert "AN_API_KEY" not in names
    installed = inside(shared, built["digest"], "cd / && python -c 'import thing; print(thing.__file__)'")
    assert "/images/" in installed
    bytecode = inside(shared, built["digest"], "cd / && python -c 'import thing; print(thing.__cached__)' | xargs ls")
    assert "/venv/" in bytecode


def test_a_second_data_folder_installs_nothing_anew(runner, tmp_path):
    runners = [type(runner)(tmp_path / name, tmp_path / "cache") for name in ("one", "two")]
    built, logs = [], []
    try:
        for program in runners:
            program.start()
            result, log = build(program, INSTALL, **PROJECT)
            built.append(result)
            logs.append(log)
        assert [log.count("  cached\n") for log in logs] == [0, 2]
        assert ["Installed 1 package" in log for log in logs] == [True, False]
        assert built[0]["digest"] == built[1]["digest"]
        assert inside(runners[1], built[1]["digest"], "thing") == "thing runs\n"

        changed = {**PROJECT, "thing.py": "def main():\n    print('thing has changed')\n"}
        third, log = build(runners[1], INSTALL, **changed)
        # Its dependencies are the same, its own code is not.
        assert (log.count("  cached\n"), "Installed 1 package" in log) == (1, True)
        assert inside(runners[1], third["digest"], "cd / && thing") == "thing has changed\n"

        fresh = runners[1].build({"Dockerfile": INSTALL, **PROJECT}, no_cache=True)
        assert "cached" not in runners[1].log(fresh["id"])
        assert fresh["digest"] == built[0]["digest"]
    finally:
        for program in runners:
            program.stop()


def wheel(said: str) -> bytes:
    """The distribution `demo`, whose module says something."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        info = "demo-1.0.dist-info"
        archive.writestr("demo.py", f"print({said!r})")
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: demo\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "".join(f"{name},,\n" for name in archive.namelist()))
    return packed.getvalue()


@pytest.mark.parametrize("file", ["uv.toml", "pyproject.toml"])
def test_the_same_requirements_from_elsewhere_are_installed_anew(shared, file):
    dockerfile = "FROM python:3.11-slim\nWORKDIR /app\nCOPY . .\nRUN pip install -r requirements.txt\nCMD sleep 9\n"
    for said in ("one", "another"):
        settings = f'no-index = true\nfind-links = ["{said}"]\n'
        files = {
            "requirements.txt": "demo\n",
            f"{said}/demo-1.0-py3-none-any.whl": wheel(said),
            file: settings if file == "uv.toml" else f"[tool.uv]\n{settings}",
        }
        built, log = build(shared, dockerfile, **files)
        assert built["status"] == "ready", log
        assert inside(shared, built["digest"], "python -m demo") == f"{said}\n"
        assert "  cached\n" in build(shared, dockerfile, **files)[1]


def test_layers_are_not_written_to_by_sandboxes(runner):
    built, _ = build(runner, INSTALL, **PROJECT)
    mode = inside(runner, built["digest"], "cd / && stat -c %a $(python -c 'import thing; print(thing.__file__)')")
    assert int(mode, 8) & 0o222 == 0


def test_layers_on_another_file_system_are_copied(tmp_path):
    elsewhere = Path("/dev/shm")
    if not elsewhere.is_dir() or elsewhere.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second file system to write to")
    with tempfile.TemporaryDirectory(dir=elsewhere) as cache:
        source = Path(cache) / "layer"
        (source / "lib").mkdir(parents=True)
        (source / "lib" / "file").write_text("content")
        (source / "link").symlink_to("lib/file")
        link(source, tmp_path / "venv")
    assert (tmp_path / "venv" / "link").read_text() == "content"
    assert (tmp_path / "venv" / "lib" / "file").stat().st_nlink == 1


def test_two_builds_of_the_same_at_once(runner):
    marker = uuid.uuid4().hex
    ids = [runner.begin_build({"Dockerfile": INSTALL, **PROJECT, "marker": marker}) for _ in range(3)]
    built = [runner.call("GET", f"/builds/{build_id}?wait=55") for build_id in ids]
    assert [item["status"] for item in built] == ["ready"] * 3
    assert len({item["digest"] for item in built}) == 1
    assert inside(runner, built[0]["digest"], "thing") == "thing runs\n"


def uv_processes(runner) -> list[str]:
    """What runs for the builds of a runner, by their mark."""
    shown = []
    wanted = f"PRIME_BUILD_DIR={runner.folder / 'scratch'}".encode()
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                if wanted in (folder / "environ").read_bytes().split(b"\0"):
                    shown.append(folder.name)
    return shown


def begin_endless(runner) -> str:
    files = {"Dockerfile": INSTALL, **PROJECT, "WAIT": uuid.uuid4().hex}
    build_id = runner.begin_build(files)
    # uv, and the backend that it runs.
    while len(uv_processes(runner)) < 2:
        assert runner.call("GET", f"/builds/{build_id}")["status"] == "running"
        time.sleep(0.05)
    return build_id


def test_a_cancelled_build_leaves_nothing(runner):
    build_id = begin_endless(runner)
    cancelled = runner.call("DELETE", f"/builds/{build_id}")
    assert (cancelled["status"], cancelled["error"]) == ("cancelled", "The build was cancelled.")
    assert uv_processes(runner) == []
    assert list((runner.folder / "scratch").iterdir()) == []


@pytest.mark.parametrize("ready", [True, False])
def test_what_an_installation_starts_ends_with_the_build(runner, ready):
    daemon = (
        "import os, subprocess, sys\n"
        "subprocess.Popen(['sleep', '600'], start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)\n"
    )
    fails = "" if ready else "raise SystemExit(1)\n"
    files = {**PROJECT, "backend.py": daemon + fails + BACKEND, "mark.txt": uuid.uuid4().hex}
    built, log = build(runner, INSTALL, **files)
    assert built["status"] == ("ready" if ready else "failed"), log
    assert uv_processes(runner) == []


def test_a_build_has_a_time_limit(runner):
    runner.stop()
    runner.start("--build-seconds", "2")
    over = runner.build({"Dockerfile": INSTALL, **PROJECT, "WAIT": uuid.uuid4().hex})
    assert over["status"] == "failed"
    assert over["error"] == "The build took longer than 2 seconds and was stopped."
    assert uv_processes(runner) == []


def test_a_runner_killed_while_building_says_so_and_cleans_up(runner):
    build_id = begin_endless(runner)
    runner.kill()
    assert uv_processes(runner)
    runner.start()
    over = runner.call("GET", f"/builds/{build_id}")
    assert over["status"] == "failed"
    assert over["error"] == "The runner was restarted while it was building; build again."
    assert uv_processes(runner) == []
    assert not (runner.folder / "scratch").exists()


@pytest.mark.parametrize("kind", ["parent", "absolute", "link", "device", "nonsense", "nothing"])
def test_a_context_that_is_not_one(shared, kind, tmp_path):
    archive = tmp_path / "context.tar.gz"
    with tarfile.open(archive, "w:gz") as packed:
        member = tarfile.TarInfo({"parent": "../out", "absolute": "/etc/x"}.get(kind, "x"))
        if kind == "link":
            member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        if kind == "device":
            member.type = tarfile.FIFOTYPE
        packed.addfile(member, io.BytesIO(b""))
    if kind == "nonsense":
        archive.write_bytes(b"not an archive")
    build_id = uuid.uuid4().hex
    if kind == "nothing":
        archive.unlink()
        refused = shared.raw("POST", "/builds", json={"id": build_id, "context": str(archive)})
        assert (refused.status_code, refused.json()["error"]) == (400, "bad_request")
        return
    shared.call("POST", "/builds", 202, json={"id": build_id, "context": str(archive)})
    built = shared.call("GET", f"/builds/{build_id}?wait=30")
    assert built["status"] == "failed"
    words = {
        "nonsense": "is not a readable tar archive",
        "absolute": "has no Dockerfile",
        "device": "neither a file nor",
    }
    assert words.get(kind, "which leads out of it") in built["error"]


@pytest.mark.index
def test_requirements_from_an_index_are_installed_once(runner, tmp_path):
    dockerfile = "FROM python:3.11-slim\nWORKDIR /app\nCOPY requirements.txt .\nRUN pip install -r requirements.txt\n"
    dockerfile += 'CMD ["uvicorn", "server:app", "--host", "0.0.0.0", "--port", "8000"]\n'
    server = "async def app(scope, receive, send):\n    if scope['type'] == 'http':\n"
    server += "        await send({'type': 'http.response.start', 'status': 200, 'headers': []})\n"
    server += "        await send({'type': 'http.response.body', 'body': b'ok'})\n"
    files = {"requirements.txt": "uvicorn\n", "server.py": server}
    built, log = build(runner, dockerfile + "COPY server.py .\n", **files)
    assert built["status"] == "ready", log
    assert "Bytecode compiled" in log
    state = runner.sandbox(built["digest"])
    assert runner.healthy(state["id"]) == "ok"
    other = type(runner)(tmp_path / "other", runner._cache)
    other.start()
    try:
        again, log = build(other, dockerfile + "COPY server.py .\n", **files)
        assert (again["digest"], "cached" in log, "Resolved" in log) == (built["digest"], True, False)
    finally:
        other.stop()
