"""Which Python is installed into, and installing from a folder."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from prime_core.errors import InstallError
from prime_core.installing import install_local
from prime_core.interpreters import inspect, target_python
from prime_core.uv import pip_index, uv_command, uv_environment
from prime_core.wheelhouse import cached
from tests.core.conftest import Venv
from tests.core.support import Site, make_environment, make_openenv, make_wheel


def test_the_order_in_which_a_python_is_looked_for(
    tmp_path: Path, new_venv: Callable[..., Venv], monkeypatch: pytest.MonkeyPatch
):
    below = tmp_path / "work" / "deep"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    assert target_python(environ={}) == Path(sys.executable)
    nearest = new_venv("work/.venv").python
    assert target_python(environ={}) == nearest
    active, project = new_venv("active").python, new_venv("project").python
    variables = {"VIRTUAL_ENV": str(active.parent.parent)}
    assert target_python(environ=variables) == active
    variables["UV_PROJECT_ENVIRONMENT"] = str(project.parent.parent)
    assert target_python(environ=variables) == project
    assert target_python(nearest.parent.parent, variables) == nearest
    assert target_python(str(nearest), variables) == nearest


@pytest.mark.parametrize("given", ["missing", "folder"])
def test_a_python_that_is_not_there(tmp_path: Path, given: str):
    (tmp_path / "folder").mkdir()
    with pytest.raises(InstallError, match=rf"There is no Python at --python .*{given}\."):
        target_python(tmp_path / given)
    with pytest.raises(InstallError, match="There is no Python at VIRTUAL_ENV="):
        target_python(environ={"VIRTUAL_ENV": str(tmp_path / given)})


def test_a_program_that_is_no_python(tmp_path: Path):
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\necho hello\n")
    program.chmod(0o755)
    with pytest.raises(InstallError, match="does not run, or is not a Python 3"):
        inspect(program)


def test_what_is_installed_is_seen(venv: Venv):
    found = inspect(venv.python)
    assert found.prefix == venv.python.parent.parent
    assert found.markers["python_version"] == f"{sys.version_info.major}.{sys.version_info.minor}"


def load(venv: Venv, module: str) -> str:
    program = f"import {module}; print({module}.load_environment())"
    done = subprocess.run([venv.python, "-I", "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("installer", ["uv", "pip"])
def test_a_folder_is_installed_with_our_own_wheels(
    tmp_path: Path, wheels: Path, index: Site, venv: Venv, installer: str
):
    folder = make_openenv(tmp_path, dependencies=("verifiers>=0.1", "left-pad"))
    report = install_local(folder, venv.python, installer)
    assert report.environments == {"my-env": "0.1.0"}
    assert venv.versions() == {"left-pad": "1.0", "my-env": "0.1.0", "prime-core": "0.1.100", "verifiers": "0.1.100"}
    assert venv.says("verifiers") == "ours"
    assert load(venv, "my_env") == "my-env"
    # What changes in the folder counts at once.
    (folder / "my_env.py").write_text("def load_environment():\n    return 'changed'\n")
    assert load(venv, "my_env") == "changed"


def test_a_folder_installed_as_a_copy(tmp_path: Path, wheels: Path, index: Site, venv: Venv):
    folder = make_openenv(tmp_path)
    install_local(folder, venv.python, editable=False)
    (folder / "my_env.py").unlink()
    assert load(venv, "my_env") == "my-env"
    assert (venv.site / "my_env" / "proj" / ".build.json").is_file()


def test_a_changed_folder_is_installed_again_without_a_new_version(
    tmp_path: Path, wheels: Path, index: Site, venv: Venv
):
    folder = make_environment(tmp_path)
    install_local(folder, venv.python, editable=False)
    (folder / "my_env.py").write_text("def load_environment():\n    return 'changed'\n")
    changes = install_local(folder, venv.python, editable=False).changes
    assert [str(change) for change in changes] == [f"my-env 0.1.0 (another copy) → 0.1.0 (from {folder})"]
    assert load(venv, "my_env") == "changed"


def test_two_folders_do_not_overwrite_each_other(tmp_path: Path, wheels: Path, index: Site, venv: Venv):
    for name in ("one-env", "two-env"):
        install_local(make_openenv(tmp_path, name), venv.python, editable=False)
    assert (load(venv, "one_env"), load(venv, "two_env")) == ("one-env", "two-env")


def test_wheels_of_ours_that_are_missing_are_said(
    tmp_path: Path, index: Site, venv: Venv, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PRIME_HUB_WHEELS", str(tmp_path / "none"))
    with pytest.raises(
        InstallError, match=r"my-env needs verifiers, and the folder .*none has no wheel of verifiers\."
    ) as caught:
        install_local(make_environment(tmp_path, dependencies=("verifiers",)), venv.python)
    assert "script/setup" in (caught.value.hint or "")
    assert not [seen for seen in index.seen if "verifiers" in seen.path]


def test_what_is_there_does_when_no_wheel_is_at_hand(
    tmp_path: Path, wheels: Path, index: Site, venv: Venv, monkeypatch: pytest.MonkeyPatch
):
    install_local(make_environment(tmp_path, dependencies=("verifiers",)), venv.python)
    monkeypatch.setenv("PRIME_HUB_WHEELS", str(tmp_path / "none"))
    install_local(
        make_environment(tmp_path, "other", dependencies=("verifiers", "left-pad")), venv.python, upgrade=True
    )
    assert venv.says("verifiers") == "ours"
    assert venv.versions()["left-pad"] == "1.0"


@pytest.mark.parametrize("filename", ["../a.whl", "a.tar.gz", "b/c.whl"])
def test_a_file_name_of_a_hub_is_never_a_path(filename: str):
    with pytest.raises(InstallError, match="is not the name of a wheel"):
        cached("0" * 64, filename)


def test_the_newest_of_two_served_wheels_counts(
    tmp_path: Path, index: Site, venv: Venv, monkeypatch: pytest.MonkeyPatch
):
    for version in ("0.1.9", "0.1.10"):
        make_wheel(tmp_path / "served", "verifiers", version, says="ours")
    monkeypatch.setenv("PRIME_HUB_WHEELS", str(tmp_path / "served"))
    install_local(make_environment(tmp_path, dependencies=("verifiers",)), venv.python)
    assert venv.versions()["verifiers"] == "0.1.10"


def test_uv_gets_the_index_that_pip_is_configured_with(tmp_path: Path, home: Path):
    environment = {"HOME": str(home), "PATH": "", "XDG_CONFIG_DIRS": str(tmp_path)}
    (home / ".config" / "pip").mkdir(parents=True)
    (home / ".config" / "pip" / "pip.conf").write_text("[global]\nindex-url = http://127.0.0.1:1/one/\n")
    assert uv_environment(environment)["UV_DEFAULT_INDEX"] == "http://127.0.0.1:1/one/"
    named = tmp_path / "pip.conf"
    named.write_text("[global]\nindex-url = http://127.0.0.1:1/two/\n")
    assert pip_index({**environment, "PIP_CONFIG_FILE": str(named)}) == "http://127.0.0.1:1/two/"
    assert pip_index({**environment, "PIP_INDEX_URL": "http://127.0.0.1:1/three/"}) == "http://127.0.0.1:1/three/"
    chosen = uv_environment({**environment, "UV_INDEX_URL": "http://127.0.0.1:1/four/"})
    assert "UV_DEFAULT_INDEX" not in chosen
    assert (chosen["UV_SYSTEM_CERTS"], chosen["UV_PYTHON_DOWNLOADS"]) == ("1", "never")
    (home / ".config" / "uv").mkdir()
    (home / ".config" / "uv" / "uv.toml").write_text('[[index]]\nurl = "http://127.0.0.1:1/five/"\n')
    assert "UV_DEFAULT_INDEX" not in uv_environment(environment)


def test_uv_is_the_one_that_came_along():
    done = subprocess.run([*uv_command(), "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("uv ")


def test_a_direct_reference_names_file_and_hash(tmp_path: Path, wheels: Path, index: Site, venv: Venv):
    install_local(make_environment(tmp_path, dependencies=("verifiers",)), venv.python)
    direct = json.loads((venv.site / "verifiers-0.1.100.dist-info" / "direct_url.json").read_text())
    assert direct["url"].startswith("file://")
    assert "archive_info" in direct
