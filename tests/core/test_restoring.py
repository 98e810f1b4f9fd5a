"""Installations that fail, are interrupted or killed: everything is as it was."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from prime_core.api import APIClient
from prime_core.connection import Connection
from prime_core.errors import InstallError
from prime_core.installing import Installer, install_from_hub, install_local, uninstall
from prime_core.interpreters import inspect
from prime_core.restoring import KEPT, LATER_SECONDS, place_of
from prime_core.uv import run_uv
from tests.core.conftest import Venv
from tests.core.support import Site, make_environment, make_wheel, publish
from tests.support.rights import held_to_modes

INSTALLERS = ["uv", "pip"]


def tree(venv: Venv) -> dict[str, bytes]:
    """Every file and folder of a virtual environment but what the compiler made, by relative path."""
    root = venv.python.parent.parent
    return {
        path.relative_to(root).as_posix(): b"" if path.is_dir() or path.is_symlink() else path.read_bytes()
        for path in sorted(root.rglob("*"))
        if "__pycache__" not in path.parts and path.name != ".lock"  # uv's own
    }


@pytest.fixture
def client(small_hub: Any) -> Iterator[APIClient]:
    """A publisher of this test's own."""
    with APIClient(small_hub.url, small_hub.add_user(f"author-{secrets.token_hex(4)}")) as client:
        yield client


@pytest.fixture
def two_versions(tmp_path: Path, client: APIClient, index: Site, venv: Venv, connection: Connection) -> Iterator[str]:
    """An environment, installed in its first version; the second needs `blocked`, which cannot be put in place."""
    first = make_environment(tmp_path / "1", "changing", dependencies=("left-pad",))
    files = {"changing/old.txt": "old", "changing/deep/er/file.txt": "old"}
    wheel = make_wheel(tmp_path / "w1", "changing", "0.1.0", ("left-pad",), files=files)
    ref = publish(client, first, wheel=wheel)
    install_from_hub(connection, [ref], venv.python)
    second = make_environment(tmp_path / "2", "changing", version="0.2.0", dependencies=("blocked",))
    files = {"changing/new.txt": "new", "changing/other/new.txt": "new"}
    publish(client, second, wheel=make_wheel(tmp_path / "w2", "changing", "0.2.0", ("blocked",), files=files))
    make_wheel(tmp_path / "index", "blocked", "1.0", files={"blocked/data/file.txt": "x"})
    yield ref


@pytest.mark.parametrize("installer", INSTALLERS)
def test_an_installer_that_fails_in_the_middle(
    two_versions: str, connection: Connection, venv: Venv, installer: Installer
):
    # A file where a folder must be: the old version is gone by the time that this is found.
    (venv.site / "blocked").write_text("in the way")
    before = tree(venv)
    with pytest.raises(InstallError, match=f"{installer} could not install changing; nothing was changed"):
        install_from_hub(connection, [two_versions], venv.python, installer)
    assert tree(venv) == before
    assert venv.versions() == {"changing": "0.1.0", "left-pad": "1.0"}
    (venv.site / "blocked").unlink()
    install_from_hub(connection, [two_versions], venv.python, installer)
    assert venv.versions() == {"blocked": "1.0", "changing": "0.2.0", "left-pad": "1.0"}
    assert not (venv.site / KEPT).exists()


@pytest.mark.parametrize("installer", INSTALLERS)
def test_a_wheel_that_would_overwrite_what_comes_along(
    tmp_path: Path, client: APIClient, connection: Connection, index: Site, venv: Venv, installer: Installer
):
    name = f"taker-{installer}"
    wheel = make_wheel(tmp_path / "w", name, "0.1.0", ("left-pad",), files={"left_pad/__init__.py": "SAYS = 'taken'"})
    ref = publish(client, make_environment(tmp_path, name), wheel=wheel)
    before = tree(venv)
    with pytest.raises(InstallError, match=rf"{name} would overwrite left_pad/__init__\.py of left-pad in "):
        install_from_hub(connection, [ref], venv.python, installer)
    assert tree(venv) == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_installation_that_is_ended(
    two_versions: str, connection: Connection, venv: Venv, tmp_path: Path, number: signal.Signals
):
    """At many moments of it, and with the installer's own processes still there."""
    program = (
        "import sys; from pathlib import Path; from prime_core.connection import Connection\n"
        "from prime_core.installing import install_from_hub\n"
        "print('begins', flush=True)\n"
        f"install_from_hub(Connection({connection.base_url!r}, '', {connection.api_key!r}), [{two_versions!r}],"
        f" Path({str(venv.python)!r}))\n"
    )
    before = tree(venv)
    # Fills the moment between the removal of the old and the end with work.
    files = {f"blocked/part{part}/file{number}.txt": "x" for part in range(60) for number in range(50)}
    make_wheel(tmp_path / "index", "blocked", "1.1", files=files)
    seen = set()
    for round_ in range(8):
        process = subprocess.Popen(
            [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
        )
        assert process.stdout is not None
        process.stdout.readline()
        marks = [venv.site / KEPT / "journal.json", venv.site / "blocked"]
        mark = marks[round_ % 2]
        while process.poll() is None and not mark.exists():
            time.sleep(0.001)
        time.sleep(0.004 * (round_ // 2))
        if process.poll() is None:
            # To all of the group, as a terminal's Ctrl-C, or to the command alone.
            os.killpg(process.pid, number) if round_ % 3 else process.send_signal(number)
        process.wait()
        process.stdout.close()
        # The next command of ours takes back what was killed, after its installer has ended.
        with place_of(inspect(venv.python), lambda _: None) as place:
            if number != signal.SIGKILL:
                assert not place.recovered
        versions = venv.versions()
        if versions["changing"] == "0.1.0":
            assert tree(venv) == before
            seen.add("taken back")
        else:
            assert versions == {"blocked": "1.1", "changing": "0.2.0", "left-pad": "1.0"}
            assert process.returncode == 0 or (venv.site / "changing" / "new.txt").exists()
            uninstall(["changing", "blocked"], venv.python)
            install_from_hub(connection, [f"{two_versions}@0.1.0"], venv.python)
            assert tree(venv).keys() == before.keys()
            before = tree(venv)
    assert "taken back" in seen
    assert not (venv.site / KEPT).exists()


def test_what_came_after_an_installation_that_was_killed_is_left(index: Site, venv: Venv, tmp_path: Path):
    for name in ("early", "late", "meant", "partial"):
        make_wheel(tmp_path / "index", name, "1.0", files={f"{name}/deep/file.txt": name})
    install = ["pip", "install", "--quiet", "--python", str(venv.python)]
    program = (
        "import os, sys; from pathlib import Path; from prime_core.interpreters import inspect\n"
        "from prime_core.restoring import place_of; from prime_core.uv import run_uv\n"
        f"with place_of(inspect(Path({str(venv.python)!r})), print) as place, place.change(['meant']):\n"
        f"    run_uv([*{install!r}, 'early'])\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    before = venv.versions()
    subprocess.run([sys.executable, "-c", program], check=False)
    assert venv.versions() == {**before, "early": "1.0"}
    journal = venv.site / KEPT / "journal.json"
    # As though the other ones came long after.
    put = (venv.site / "early-1.0.dist-info" / "RECORD").stat().st_ctime
    os.utime(journal, (put - LATER_SECONDS + 0.01,) * 2)
    while time.time() < put + 0.5:
        time.sleep(0.05)
    assert run_uv([*install, "late", "meant", "partial"]).returncode == 0
    (venv.site / "partial" / "deep" / "file.txt").unlink()
    with place_of(inspect(venv.python), lambda _: None) as place:
        assert place.recovered
    assert venv.versions() == {**before, "late": "1.0"}
    assert (venv.site / "late" / "deep" / "file.txt").read_text() == "late"
    assert not any((venv.site / name).exists() for name in ("early", "meant", "partial"))


def test_one_installation_at_a_time(two_versions: str, connection: Connection, venv: Venv):
    said: list[str] = []
    program = (
        "import sys; from pathlib import Path; from prime_core.interpreters import inspect\n"
        "from prime_core.restoring import place_of\n"
        f"with place_of(inspect(Path({str(venv.python)!r})), print):\n"
        "    print('has it', flush=True); sys.stdin.readline()\n"
    )
    holder = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None and holder.stdin is not None
    assert holder.stdout.readline() == "has it\n"

    def announce(line: str) -> None:
        said.append(line)
        if holder.stdin is not None:
            holder.stdin.write("\n")
            holder.stdin.flush()

    install_from_hub(connection, [two_versions], venv.python, announce=announce)
    assert said == [f"Another installation into {venv.python.parent.parent} is at work; waiting for it"]
    assert holder.wait() == 0
    holder.stdin.close()
    holder.stdout.close()


@pytest.mark.parametrize("installer", INSTALLERS)
def test_uninstalling(
    tmp_path: Path, client: APIClient, connection: Connection, index: Site, venv: Venv, installer: Installer
):
    empty = tree(venv)
    folder = make_environment(tmp_path, "gone", dependencies=("left-pad",))
    ref = publish(client, folder)
    user = publish(client, make_environment(tmp_path, "user-of", dependencies=("gone",)))
    install_from_hub(connection, [user], venv.python, installer)
    with pytest.raises(InstallError, match=r"user-of in .* needs gone; nothing was removed"):
        uninstall(["gone"], venv.python, installer)
    with pytest.raises(InstallError, match=r"never-there is not installed in .*; nothing was removed"):
        uninstall(["user-of", "never-there"], venv.python, installer)
    report = uninstall(["User_Of", "gone"], venv.python, installer)
    assert [str(change) for change in report.changes] == ["gone 0.1.0 → removed", "user-of 0.1.0 → removed"]
    assert venv.versions() == {"left-pad": "1.0"}
    install_local(folder, venv.python, installer)
    report = uninstall(["gone"], venv.python, installer)
    assert [str(change) for change in report.changes] == [f"gone 0.1.0 (from {folder}) → removed"]
    assert (folder / "gone.py").exists()
    uninstall(["left-pad"], venv.python, installer)
    assert tree(venv).keys() == empty.keys()
    assert ref


def test_our_own_are_not_uninstalled(
    tmp_path: Path, client: APIClient, connection: Connection, index: Site, venv: Venv
):
    ref = publish(client, make_environment(tmp_path, "keeps", dependencies=("verifiers",)))
    install_from_hub(connection, [ref], venv.python)
    with pytest.raises(InstallError, match="verifiers is no environment, but a part of this program"):
        uninstall(["keeps", "verifiers"], venv.python)
    assert "keeps" in venv.versions()


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    folder.chmod(0o555)
    try:
        yield
    finally:
        folder.chmod(0o755)


def test_a_place_that_cannot_be_written_to(two_versions: str, connection: Connection, venv: Venv):
    with read_only(venv.site), held_to_modes(), pytest.raises(InstallError, match="cannot be written to"):
        install_from_hub(connection, [two_versions], venv.python)
