"""Installing from a Hub beside an index that offers 9.9 of every name of ours: what is meant is what is installed."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prime_core.api import APIClient
from prime_core.connection import Connection
from prime_core.errors import InstallConflict, InstallError
from prime_core.installing import Installer, install_from_hub
from prime_core.references import Reference, parse_reference
from prime_core.uv import run_uv
from tests.core.conftest import Venv
from tests.core.support import Site, make_environment, make_openenv, make_wheel, publish

INSTALLERS: list[Installer] = ["uv", "pip"]
NEEDS = ("verifiers>=0.1", "left-pad>=1")


@pytest.fixture(params=INSTALLERS)
def installer(request: pytest.FixtureRequest) -> Installer:
    return request.param


def load(venv: Venv, module: str) -> str:
    program = f"import {module}; print({module}.load_environment())"
    return subprocess.run([venv.python, "-I", "-c", program], check=True, capture_output=True, text=True).stdout.strip()


def asked(index: Site) -> set[str]:
    """The projects that the index was asked for."""
    return {seen.path.split("/")[2] for seen in index.seen if seen.path.startswith("/simple/")}


def from_index(venv: Venv, *requirements: str) -> None:
    done = run_uv(["pip", "install", "--quiet", "--python", str(venv.python), *requirements])
    assert done.returncode == 0, done.stderr


def test_a_clean_venv_gets_ours(
    tmp_path: Path, connection: Connection, client: APIClient, index: Site, venv: Venv, installer: Installer
):
    ref = publish(client, make_openenv(tmp_path, f"clean-{installer}", dependencies=NEEDS))
    report = install_from_hub(connection, [ref], venv.python, installer)
    installed = {f"clean-{installer}": "0.1.0", "left-pad": "1.0", "prime-core": "0.1.100", "verifiers": "0.1.100"}
    assert venv.versions() == installed
    assert {change.name: change.new for change in report.changes} == installed
    assert {change.old for change in report.changes} == {None}
    assert report.environments == {f"clean-{installer}": "0.1.0"}
    assert (venv.says("verifiers"), venv.says("prime_core")) == ("ours", "ours")
    assert load(venv, f"clean_{installer}") == f"clean-{installer}"
    assert asked(index) == {"left-pad"}


def test_an_upgrade_takes_third_parties_along_and_nothing_of_ours(
    tmp_path: Path, connection: Connection, client: APIClient, index: Site, venv: Venv, installer: Installer
):
    name = f"upgrade-{installer}"
    folder = make_environment(tmp_path, name, dependencies=NEEDS)
    ref = publish(client, folder)
    install_from_hub(connection, [ref], venv.python, installer)
    make_wheel(tmp_path / "index", "left-pad", "1.1")
    make_wheel(tmp_path / "index", name, "9.9")
    project = folder / "pyproject.toml"
    project.write_text(project.read_text().replace('version = "0.1.0"', 'version = "0.2.0"'))
    publish(client, folder)
    # uv remembers an index's page for ten minutes.
    run_uv(["cache", "clean", "--quiet", "left-pad"])
    report = install_from_hub(connection, [ref], venv.python, installer, upgrade=True)
    found = venv.versions()
    assert (found[name], found["verifiers"], found["prime-core"]) == ("0.2.0", "0.1.100", "0.1.100")
    changes = {change.name: str(change) for change in report.changes}
    assert changes[name] == f"{name} 0.1.0 → 0.2.0"
    assert venv.says("verifiers") == "ours"
    assert {"verifiers", "prime-core", name} & asked(index) == set()
    if installer == "uv":
        assert found["left-pad"] == "1.1"


@pytest.mark.parametrize("version", ["9.9", "0.1.100"])
def test_what_an_index_has_put_there_is_replaced(
    tmp_path: Path,
    connection: Connection,
    client: APIClient,
    index: Site,
    venv: Venv,
    installer: Installer,
    version: str,
):
    make_wheel(tmp_path / "index", "verifiers", version, says="index")
    from_index(venv, f"verifiers=={version}")
    assert venv.says("verifiers") == "index"
    ref = publish(
        client, make_environment(tmp_path, f"replace-{installer}-{version.replace('.', '')}", dependencies=NEEDS)
    )
    install_from_hub(connection, [ref], venv.python, installer)
    assert (venv.versions()["verifiers"], venv.says("verifiers")) == ("0.1.100", "ours")


def test_a_third_party_that_asks_for_ours_gets_ours(
    tmp_path: Path, connection: Connection, client: APIClient, index: Site, venv: Venv, installer: Installer
):
    make_wheel(tmp_path / "index", "third-party", "1.0", ("prime-sandboxes", "verifiers"))
    ref = publish(client, make_environment(tmp_path, f"third-{installer}", dependencies=("third-party",)))
    install_from_hub(connection, [ref], venv.python, installer)
    found = venv.versions()
    assert (found["prime-sandboxes"], found["verifiers"]) == ("0.1.100", "0.1.100")
    assert (venv.says("prime_sandboxes"), venv.says("prime_core")) == ("ours", "ours")


def test_an_extra_of_ours_is_honoured(
    tmp_path: Path, connection: Connection, client: APIClient, index: Site, venv: Venv, installer: Installer
):
    ref = publish(client, make_environment(tmp_path, f"extra-{installer}", dependencies=("verifiers[evals]>=0.1",)))
    install_from_hub(connection, [ref], venv.python, installer)
    assert venv.versions()["prime-evals"] == "0.1.100"
    assert venv.says("prime_evals") == "ours"


def test_a_source_folder_of_ours_stays(
    tmp_path: Path, connection: Connection, client: APIClient, index: Site, venv: Venv, installer: Installer
):
    from_index(
        venv, str(make_wheel(tmp_path / "mine", "verifiers", "0.1.200", ("prime-core",), says="mine")), "left-pad"
    )
    # As an editable install records itself (PEP 610).
    info = venv.site / "verifiers-0.1.200.dist-info" / "direct_url.json"
    info.write_text('{"url": "file:///somewhere/verifiers", "dir_info": {"editable": true}}')
    make_wheel(tmp_path / "mine", "prime-core", "0.1.300", says="mine")
    from_index(venv, str(tmp_path / "mine" / "prime_core-0.1.300-py3-none-any.whl"))
    ref = publish(client, make_environment(tmp_path, f"stays-{installer}", dependencies=NEEDS))
    install_from_hub(connection, [ref], venv.python, installer, upgrade=True)
    found = venv.versions()
    assert (found["verifiers"], found["prime-core"]) == ("0.1.200", "0.1.300")
    assert venv.says("verifiers") == "mine"


def test_two_openenv_environments_in_one_venv(
    tmp_path: Path, connection: Connection, client: APIClient, index: Site, venv: Venv
):
    refs = [publish(client, make_openenv(tmp_path, f"{word}-uv", dependencies=NEEDS)) for word in ("one", "two")]
    install_from_hub(connection, refs[:1], venv.python)
    install_from_hub(connection, refs[1:], venv.python)
    for word in ("one", "two"):
        server = venv.site / f"{word}_uv" / "proj" / "server.py"
        assert server.read_text() == f"# the server of {word}-uv\n"
    assert not (venv.site / "proj").exists()
    assert not (venv.site / "pyproject.toml").exists()


def test_a_wheel_that_would_overwrite_is_refused(
    tmp_path: Path, connection: Connection, client: APIClient, index: Site, venv: Venv, installer: Installer
):
    refs = []
    for word in ("first", "second"):
        name = f"{word}-{installer}"
        files = {"proj/server.py": f"# {word}", "README.md": f"# {word}"}
        wheel = make_wheel(tmp_path / "flat", name, "0.1.0", files=files)
        refs.append(publish(client, make_environment(tmp_path, name), wheel=wheel))
    install_from_hub(connection, refs[:1], venv.python, installer)
    before = venv.versions()
    with pytest.raises(InstallError) as caught:
        install_from_hub(connection, refs[1:], venv.python, installer)
    assert f"second-{installer} would overwrite proj/server.py of first-{installer} in " in str(caught.value)
    assert "another virtual environment" in (caught.value.hint or "")
    assert venv.versions() == before
    assert (venv.site / "proj" / "server.py").read_text() == "# first"


def test_two_wheels_of_one_call_do_not_overwrite_each_other_either(
    tmp_path: Path, connection: Connection, client: APIClient, index: Site, venv: Venv
):
    refs = []
    for name in ("both-one", "both-two"):
        wheel = make_wheel(tmp_path / "flat", name, "0.1.0", files={"proj/server.py": name})
        refs.append(publish(client, make_environment(tmp_path, name), wheel=wheel))
    with pytest.raises(InstallError, match=r"both-two would overwrite proj/server\.py of both-one"):
        install_from_hub(connection, refs, venv.python)
    assert venv.versions() == {}


@pytest.mark.parametrize("name", ["verifiers", "prime-core"])
def test_an_environment_cannot_pass_itself_off_as_ours(
    tmp_path: Path, connection: Connection, client: APIClient, index: Site, venv: Venv, name: str
):
    ref = publish(client, make_environment(tmp_path, name, version="99.0"))
    with pytest.raises(InstallError, match=f"calls itself '{name}', a name of this project"):
        install_from_hub(connection, [ref], venv.python)
    assert venv.versions() == {}


def test_an_environment_does_not_replace_a_package_that_others_need(
    tmp_path: Path, connection: Connection, client: APIClient, index: Site, venv: Venv
):
    make_wheel(tmp_path / "index", "right-pad", "1.0")
    make_wheel(tmp_path / "index", "user-of-pad", "1.0", ("right-pad",))
    from_index(venv, "user-of-pad")
    ref = publish(client, make_environment(tmp_path, "right-pad", version="3.0"))
    with pytest.raises(InstallError, match=r"would replace the package right-pad 1\.0, which user-of-pad needs"):
        install_from_hub(connection, [ref], venv.python)
    assert venv.versions()["right-pad"] == "1.0"


def test_a_damaged_cache_is_not_trusted(
    tmp_path: Path,
    connection: Connection,
    client: APIClient,
    index: Site,
    new_venv: Callable[..., Venv],
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("PRIME_CACHE_DIR", str(tmp_path / "cache"))
    ref = publish(client, make_environment(tmp_path, "cached", dependencies=NEEDS))
    install_from_hub(connection, [ref], new_venv("one").python)
    kept = sorted((tmp_path / "cache").rglob("*.whl"))
    assert len(kept) == 7, kept
    for path in kept:
        path.write_bytes(b"evil")
    venv = new_venv("two")
    install_from_hub(connection, [ref], venv.python)
    assert venv.says("verifiers") == "ours"
    assert all(path.read_bytes() != b"evil" for path in kept)


def test_a_wheel_with_another_hash_is_not_installed(
    tmp_path: Path, connection: Connection, client: APIClient, index: Site, venv: Venv, wheels: Path, small_hub: Any
):
    ref = publish(client, make_environment(tmp_path, "hashed", dependencies=NEEDS))
    good = client.get("/environmentshub/" + ref.split("/")[0] + "/hashed/@latest")["data"]["wheel_sha256"]
    blobs = [path for path in (small_hub.data_dir / "blobs").rglob("*") if path.is_file()]
    ours = [path for path in blobs if hashlib.sha256(path.read_bytes()).hexdigest() == good]
    assert len(ours) == 1
    content = bytearray(ours[0].read_bytes())
    content[len(content) // 2] ^= 1
    ours[0].write_bytes(content)
    with pytest.raises(Exception, match=r"hashed-0\.1\.0.*has sha256 .*thrown away"):
        install_from_hub(connection, [ref], venv.python)
    assert venv.versions() == {}


def test_an_environment_that_needs_another_of_its_owner(
    tmp_path: Path, connection: Connection, client: APIClient, index: Site, venv: Venv
):
    base = "base-uv"
    make_wheel(tmp_path / "index", base, "9.9", says="index")
    for version in ("0.1.0", "0.2.0", "1.0.0"):
        publish(client, make_environment(tmp_path, base, version=version))
    ref = publish(client, make_environment(tmp_path, "top-uv", dependencies=(f"{base}<1",)))
    report = install_from_hub(connection, [ref], venv.python)
    assert venv.versions() == {base: "0.2.0", "top-uv": "0.1.0"}
    assert report.environments == venv.versions()


def test_a_version_is_installed_as_asked(
    tmp_path: Path, connection: Connection, client: APIClient, index: Site, venv: Venv
):
    for version in ("0.1.0", "0.2.0"):
        ref = publish(client, make_environment(tmp_path, "versioned", version=version))
    install_from_hub(connection, [f"{ref}@0.1.0"], venv.python)
    assert venv.versions() == {"versioned": "0.1.0"}
    report = install_from_hub(connection, [ref], venv.python)
    assert [str(change) for change in report.changes] == ["versioned 0.1.0 → 0.2.0"]


def test_a_private_environment_needs_its_owners_key(
    tmp_path: Path, connection: Connection, client: APIClient, index: Site, venv: Venv
):
    ref = publish(client, make_environment(tmp_path, "hidden"), visibility="PRIVATE")
    stranger = Connection(connection.base_url, connection.frontend_url, None)
    with pytest.raises(InstallError, match=rf"has no environment {ref}, or it is private") as caught:
        install_from_hub(stranger, [ref], venv.python)
    assert "prime login" in (caught.value.hint or "")
    install_from_hub(connection, [ref], venv.python)
    assert venv.versions() == {"hidden": "0.1.0"}


def test_versions_that_do_not_fit_are_said(
    tmp_path: Path, connection: Connection, client: APIClient, index: Site, venv: Venv
):
    ref = publish(client, make_environment(tmp_path, "newer", dependencies=("verifiers>=0.2",)))
    with pytest.raises(InstallError, match=r"newer needs verifiers>=0\.2, but the Hub at .* has verifiers 0\.1\.100\."):
        install_from_hub(connection, [ref], venv.python)
    assert venv.versions() == {}


def test_a_dependency_by_address_is_not_followed_for_ours(
    tmp_path: Path, connection: Connection, client: APIClient, index: Site, venv: Venv
):
    wheel = make_wheel(tmp_path / "direct", "direct", "0.1.0", ("verifiers @ http://127.0.0.1:1/v.whl",))
    ref = publish(client, make_environment(tmp_path, "direct"), wheel=wheel)
    with pytest.raises(InstallError, match=r"direct names verifiers by address \(http://127\.0\.0\.1:1/v\.whl\)"):
        install_from_hub(connection, [ref], venv.python)


def test_what_the_index_lacks_is_said_and_nothing_changes(
    tmp_path: Path, connection: Connection, client: APIClient, index: Site, venv: Venv, installer: Installer
):
    ref = publish(
        client, make_environment(tmp_path, f"lacking-{installer}", dependencies=("no-such-thing", "verifiers"))
    )
    with pytest.raises(
        InstallError, match=f"{installer} could not install lacking-{installer}; nothing was changed"
    ) as caught:
        install_from_hub(connection, [ref], venv.python, installer)
    assert "no-such-thing" in str(caught.value)
    assert venv.versions() == {}


def test_a_second_install_changes_nothing(
    tmp_path: Path, connection: Connection, client: APIClient, index: Site, venv: Venv
):
    ref = publish(client, make_environment(tmp_path, "twice-uv", dependencies=NEEDS))
    install_from_hub(connection, [ref], venv.python)
    assert install_from_hub(connection, [ref], venv.python).changes == []


def test_no_key_reaches_the_installer(
    tmp_path: Path, connection: Connection, client: APIClient, index: Site, venv: Venv, monkeypatch: pytest.MonkeyPatch
):
    seen = tmp_path / "seen"
    fake = tmp_path / "bin" / "python"
    fake.parent.mkdir()
    fake.write_text(f'#!/bin/sh\nenv >> {seen}\nexec {venv.python} "$@"\n')
    fake.chmod(0o755)
    monkeypatch.setenv("PRIME_API_KEY", "very-secret")
    monkeypatch.setenv("HF_TOKEN", "very-secret")
    ref = publish(client, make_environment(tmp_path, "keyless"))
    install_from_hub(connection, [ref], fake)
    assert "PATH=" in seen.read_text()
    assert "very-secret" not in seen.read_text()
    assert connection.api_key
    assert connection.api_key not in seen.read_text()


@pytest.mark.parametrize("text", ["my-env", "a/b/c", "alice/", "/x", "alice/my env", "alice/../x", "a/b@"])
def test_a_reference_that_is_none(text: str):
    with pytest.raises(InstallError, match="is not of the form OWNER/NAME or OWNER/NAME@VERSION"):
        parse_reference(text)


def test_references():
    assert parse_reference("alice/my-env") == Reference("alice", "my-env", "latest")
    assert parse_reference("alice/my_env@1.0rc1") == Reference("alice", "my_env", "1.0rc1")


@pytest.mark.index
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("installer", INSTALLERS)
def test_with_the_real_closure_and_an_index_that_comes_first(
    tmp_path: Path,
    start_hub: Callable[..., Any],
    new_venv: Callable[..., Venv],
    monkeypatch: pytest.MonkeyPatch,
    installer: Installer,
):
    """Our real wheels, third-party packages from the configured index, and an index of impostors before it."""
    from prime_core.wheelhouse import OURS
    from tests.core.support import serve_index

    monkeypatch.delenv("PRIME_HUB_WHEELS", raising=False)
    hub = start_hub()
    venv = new_venv()
    for name in OURS:
        make_wheel(tmp_path / "index", name, "9.9", says="index")
    with serve_index(tmp_path / "index") as site, APIClient(hub.url, hub.token) as client:
        monkeypatch.setenv("UV_INDEX", site.url)
        monkeypatch.setenv("PIP_EXTRA_INDEX_URL", site.url)
        ref = publish(client, make_openenv(tmp_path, "real", dependencies=("verifiers>=0.1",)))
        connection = Connection(hub.url, hub.url, hub.token)
        install_from_hub(connection, [ref], venv.python, installer)
        install_from_hub(connection, [ref], venv.python, installer, upgrade=True)
        found = venv.versions()
        assert {name: found[name] for name in OURS & set(found)} == {
            "prime-core": "0.1.0",
            "prime-evals": "0.3.0",
            "verifiers": "0.1.100",
        }
        assert {"httpx", "openai", "rich"} <= set(found)
        assert load(venv, "real") == "real"


def test_whole_refuses_what_would_break_another(
    tmp_path: Path, connection: Connection, client: APIClient, index: Site, venv: Venv, installer: Installer
):
    make_wheel(tmp_path / "index", "left-pad", "2.0")
    make_wheel(tmp_path / "index", "pad-user", "1.0", ("left-pad<2",))
    from_index(venv, "pad-user")
    before = venv.versions()
    name = f"breaks-{installer}"
    ref = publish(client, make_environment(tmp_path, name, dependencies=("left-pad>=2",)))
    with pytest.raises(InstallConflict) as refused:
        install_from_hub(connection, [ref], venv.python, installer, whole=True)
    said = f"For {name}, left-pad 1.0 in {venv.python.parent.parent} would be replaced by 2.0, and pad-user needs left-pad<2"
    assert str(refused.value).startswith(said) and refused.value.environments == {name: "0.1.0"}
    assert venv.versions() == before
    # What breaks nothing is installed, and without `whole` so is this.
    fine = publish(client, make_environment(tmp_path / "fine", f"fits-{installer}", dependencies=("left-pad>=1",)))
    install_from_hub(connection, [fine], venv.python, installer, whole=True)
    install_from_hub(connection, [ref], venv.python, installer)
    assert venv.versions() == {**before, f"fits-{installer}": "0.1.0", name: "0.1.0", "left-pad": "2.0"}
