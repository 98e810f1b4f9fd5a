"""Environments that need others of the Hub: which versions, whose, and what is refused."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from prime_core.api import APIClient
from prime_core.connection import Connection
from prime_core.errors import InstallError
from prime_core.installing import Installer, InstallReport, install_from_hub, install_local
from prime_core.interpreters import inspect
from prime_core.planning import active_requirements
from tests.core.conftest import Venv
from tests.core.support import Site, make_environment, make_wheel, publish


class Owner:
    """Somebody who publishes on the Hub of these tests."""

    def __init__(self, hub: Any, folder: Path, name: str) -> None:
        self.name = f"{name}-{secrets.token_hex(3)}"
        self.key = hub.add_user(self.name)
        self.client = APIClient(hub.url, self.key)
        self._folder = folder / self.name

    def push(self, name: str, version: str = "0.1.0", *needs: str, wheel_files: dict[str, str] | None = None) -> str:
        folder = make_environment(self._folder / version, name, version=version, dependencies=needs)
        wheel = make_wheel(folder / "dist", name, version, needs, files=wheel_files) if wheel_files else None
        return publish(self.client, folder, wheel=wheel)

    def yank(self, name: str, version: str, reason: str = "") -> None:
        self.client.put(f"/environmentshub/{self.name}/{name}/@{version}/yank", {"reason": reason})

    def folder(self, name: str, version: str = "0.1.0") -> Path:
        return self._folder / version / name.replace("-", "_")


@pytest.fixture
def alice(small_hub: Any, tmp_path: Path) -> Iterator[Owner]:
    owner = Owner(small_hub, tmp_path, "alice")
    yield owner
    owner.client.close()


@pytest.fixture
def bob(small_hub: Any, tmp_path: Path) -> Iterator[Owner]:
    owner = Owner(small_hub, tmp_path, "bob")
    yield owner
    owner.client.close()


@pytest.fixture
def install(connection: Connection, index: Site, venv: Venv) -> Any:
    def run(*refs: str, installer: Installer = "uv", **options: Any) -> InstallReport:
        return install_from_hub(connection, refs, venv.python, installer, **options)

    return run


def test_versions_that_fit_all_who_ask(alice: Owner, install: Any, venv: Venv):
    for version in ("0.1.0", "0.2.0", "0.3.0", "1.0.0"):
        alice.push("base", version)
    alice.push("left", "0.1.0", "base<1")
    alice.push("right", "0.1.0", "base!=0.3.0")
    top = alice.push("top", "0.1.0", "left", "right")
    report = install(top)
    assert venv.versions() == {"base": "0.2.0", "left": "0.1.0", "right": "0.1.0", "top": "0.1.0"}
    assert report.environments == venv.versions()
    # Again: nothing moves, though there is a newer one, unless that is asked for.
    alice.push("base", "0.2.5")
    assert install(top).changes == []
    assert [str(change) for change in install(top, upgrade=True).changes] == ["base 0.2.0 → 0.2.5"]


def test_an_older_version_is_taken_where_the_newest_does_not_go_together(alice: Owner, install: Any, venv: Venv):
    alice.push("base", "1.0.0")
    alice.push("middle", "0.1.0", "base<2")
    alice.push("middle", "0.2.0", "base>=2")
    install(alice.push("top", "0.1.0", "middle", "base"))
    assert venv.versions() == {"base": "1.0.0", "middle": "0.1.0", "top": "0.1.0"}


def test_a_circle(alice: Owner, install: Any, venv: Venv):
    alice.push("chicken", "0.1.0", "egg>=0.1")
    alice.push("egg", "0.1.0", "chicken")
    install(f"{alice.name}/egg")
    assert venv.versions() == {"chicken": "0.1.0", "egg": "0.1.0"}


def test_markers_and_extras(alice: Owner, install: Any, venv: Venv):
    for name in ("never", "older", "extra-one", "extra-two"):
        alice.push(name)
    needs = ("never; python_version < '3'", "older; extra == 'old'", "extra-one; extra == 'one'")
    alice.push("base", "0.1.0", *needs, wheel_files={"base/more.py": ""})
    install(alice.push("top", "0.1.0", "base[one]", wheel_files={"top/more.py": ""}))
    assert venv.versions() == {"base": "0.1.0", "extra-one": "0.1.0", "top": "0.1.0"}


@pytest.mark.parametrize("installer", ["uv", "pip"])
def test_whose_it_is(alice: Owner, bob: Owner, install: Any, venv: Venv, tmp_path: Path, installer: Installer):
    """The same owner's; another owner's only where the command names it; never a stranger's; else the index's."""
    helper = f"helper-{installer}"
    top = alice.push("top", "0.1.0", f"{helper}>=0.1", "left-pad")
    bob.push(helper, "0.5.0")
    bob.push("left-pad", "7.7")
    with pytest.raises(InstallError, match="could not install top; nothing was changed") as caught:
        install(top, installer=installer)
    assert (
        caught.value.hint
        == f"This Hub has {bob.name}/{helper}. If that is meant by {helper}, name it in the same command."
    )
    assert venv.versions() == {}
    install(top, f"{bob.name}/{helper}", installer=installer)
    assert venv.versions() == {helper: "0.5.0", "left-pad": "1.0", "top": "0.1.0"}
    alice.push(helper, "0.1.0")
    install(top, installer=installer)
    assert venv.versions()[helper] == "0.1.0"
    install(top, f"{bob.name}/{helper}@0.5.0", installer=installer)
    assert venv.versions()[helper] == "0.5.0"


def test_what_does_not_go_together_is_said(alice: Owner, bob: Owner, install: Any, venv: Venv):
    alice.push("base", "0.1.0")
    old = alice.push("old", "0.1.0", "base<0.1")
    with pytest.raises(
        InstallError, match=rf"{alice.name}/old 0\.1\.0 needs base<0\.1 of {alice.name}; {alice.name} has"
    ):
        install(old)
    alice.push("base", "2.0.0")
    both = alice.push("one", "0.1.0", "base<1"), alice.push("two", "0.1.0", "base>=2")
    with pytest.raises(InstallError, match=r"needs base(<1|>=2).*; .*needs base(<1|>=2).*has 2\.0\.0, 0\.1\.0"):
        install(*both)
    bob.push("base")
    other = bob.push("other", "0.1.0", "base")
    with pytest.raises(
        InstallError, match=rf"needs {alice.name}/base and .* needs {bob.name}/base, which have one name"
    ):
        install(both[0], other)
    with pytest.raises(InstallError, match="cannot both be installed: they have one name"):
        install(f"{alice.name}/base", f"{bob.name}/base")
    with pytest.raises(InstallError, match="cannot both be installed"):
        install(f"{alice.name}/base@0.1.0", f"{alice.name}/base@2.0.0")
    with pytest.raises(InstallError, match=rf"There is no version '9\.9' of {alice.name}/base"):
        install(f"{alice.name}/base@9.9")
    assert venv.versions() == {}


def test_candidates_only_where_they_are_asked_for(alice: Owner, install: Any, venv: Venv, tmp_path: Path):
    for version in ("0.1.0", "0.2.0rc1"):
        ref = alice.push("tried", version, "pre-pad")
    make_wheel(tmp_path / "index", "pre-pad", "1.0")
    make_wheel(tmp_path / "index", "pre-pad", "2.0rc1")
    install(ref)
    assert venv.versions() == {"pre-pad": "1.0", "tried": "0.1.0"}
    install(ref, prerelease=True, upgrade=True)
    assert venv.versions() == {"pre-pad": "2.0rc1", "tried": "0.2.0rc1"}
    install(f"{ref}@0.2.0rc1")
    only = alice.push("only", "0.1.0rc2")
    install(only)
    assert venv.versions()["only"] == "0.1.0rc2"


def test_yanked_versions_only_where_exactly_they_are_asked_for(alice: Owner, install: Any, venv: Venv):
    for version in ("0.1.0", "0.2.0"):
        ref = alice.push("drawn", version)
    alice.yank("drawn", "0.2.0", "counts wrong")
    assert install(ref).warnings == []
    assert venv.versions() == {"drawn": "0.1.0"}
    report = install(f"{ref}@0.2.0")
    assert venv.versions() == {"drawn": "0.2.0"}
    assert report.warnings == [f"{ref} 0.2.0 was yanked: counts wrong"]
    install(alice.push("user", "0.1.0", "drawn>=0.1"), upgrade=True)
    assert venv.versions()["drawn"] == "0.1.0"
    assert install(alice.push("exact", "0.1.0", "drawn==0.2.0")).warnings == report.warnings
    alice.yank("drawn", "0.1.0")
    with pytest.raises(InstallError, match=rf"Every version of {ref} was yanked \(0\.2\.0: counts wrong\)") as caught:
        install(ref)
    assert caught.value.hint == f"If you mean it: 'prime env install {ref}@0.2.0'."
    digest = alice.client.get(f"/environmentshub/{ref}/@0.1.0")["data"]["content_hash"]
    assert install(f"{ref}@{digest[:10]}").environments == {"drawn": "0.1.0"}


def test_no_upgrade_leaves_what_is_of_the_hub(alice: Owner, install: Any, venv: Venv):
    ref = alice.push("stays", "0.1.0")
    install(ref)
    alice.push("stays", "0.2.0")
    assert install(ref, no_upgrade=True).changes == []
    assert install(f"{ref}@0.2.0", no_upgrade=True).environments == {"stays": "0.2.0"}
    # What another put there under that name and number is not what is asked for.
    install_local(alice.folder("stays"), venv.python)
    report = install(ref, no_upgrade=True)
    assert [str(change) for change in report.changes] == [
        f"stays 0.1.0 (from {alice.folder('stays')}) → 0.2.0 (from the Hub)"
    ]


@pytest.mark.parametrize("installer", ["uv", "pip"])
def test_what_is_replaced_is_said(alice: Owner, install: Any, venv: Venv, installer: Installer):
    ref = alice.push("both-places")
    folder = alice.folder("both-places")
    install_local(folder, venv.python, installer)
    local, hub = f"0.1.0 (from {folder})", "0.1.0 (from the Hub)"
    assert [str(change) for change in install(ref, installer=installer).changes] == [f"both-places {local} → {hub}"]
    changes = install_local(folder, venv.python, installer).changes
    assert [str(change) for change in changes] == [f"both-places 0.1.0 (another copy) → {local}"]


def test_a_private_one_of_a_team_and_what_it_needs(
    alice: Owner, bob: Owner, small_hub: Any, venv: Venv, index: Site, tmp_path: Path
):
    team = alice.client.post("/teams", {"slug": f"team-{secrets.token_hex(3)}"})["data"]
    alice.client.post(f"/teams/{team['teamId']}/members", {"user": bob.name, "role": "member"})
    for name, needs in (("inner", ()), ("outer", ("inner",))):
        ref = publish(alice.client, make_environment(tmp_path / "team", name, dependencies=needs), visibility="PRIVATE")
        alice.client.post(f"/environmentshub/{ref}/transfer", {"to": team["slug"]})
    ref = f"{team['slug']}/outer"
    with pytest.raises(InstallError, match="has no environment"):
        install_from_hub(Connection(small_hub.url, small_hub.url, None), [ref], venv.python)
    install_from_hub(Connection(small_hub.url, small_hub.url, bob.key), [ref], venv.python)
    assert venv.versions() == {"inner": "0.1.0", "outer": "0.1.0"}


def test_a_line_that_is_no_requirement():
    with pytest.raises(InstallError, match="requires 'what is this\\?', which is not a requirement"):
        active_requirements(["what is this?"], (), inspect(Path(sys.executable)))
