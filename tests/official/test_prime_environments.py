"""The official `prime` 0.18.0, unmodified, with environments of a real Hub (hub.md §7, rows 1 to 16)."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from prime_core.uv import run_uv, uv_environment
from tests.conftest import RunningHub
from tests.hub.browsing import Browser
from tests.official.command import Prime
from tests.official.cutting import STEPS, CuttingProxy
from tests.official.environments import LEFT_OUT, content_hash, taken, write
from tests.official.rows import Rows

pytestmark = [pytest.mark.index]


@pytest.fixture
def prime(module_hub: RunningHub, home: Path) -> Prime:
    return Prime(module_hub, home)


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Path]:
    """A virtual environment to install into; its Python."""
    folder = tmp_path / "target"
    assert run_uv(["venv", "--quiet", "--seed", str(folder)], env=uv_environment()).returncode == 0
    yield folder / "bin" / "python"


def imported(python: Path, module: str) -> str:
    """What `load_environment` of an installed module answers."""
    code = f"import {module}; print({module}.load_environment())"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_row_1_a_key_and_who_it_is(module_hub: RunningHub, prime: Prime, rows: Rows) -> None:
    with rows(1):
        assert "configured successfully!" in prime("config", "set-api-key", module_hub.token)
        said = prime("--plain", "whoami")
        assert any(line.split()[:2] == ["Username", module_hub.owner] for line in said.splitlines()), said


def test_row_2_login_by_a_challenge(module_hub: RunningHub, prime: Prime, rows: Rows) -> None:
    with rows(2):
        prime.variables["PRIME_API_KEY"] = ""
        person = Browser(module_hub)
        link = module_hub.api.post("/user/sign-in-link").json()["data"]
        person.get(f"{link['path']}?code={link['code']}")
        said = ""
        with prime.begun("login", "--headless") as program:
            assert program.stdout is not None and program.stdin is not None
            for line in program.stdout:
                said += line
                if found := re.search(r"(/dashboard/tokens/challenge\?code=\S+)", line):
                    break
            assert found, said
            person.submit(found[1], "/dashboard/tokens/challenge", choice="approve")
            rest, _ = program.communicate("1\n", timeout=60)
        assert program.returncode == 0 and "Successfully logged in!" in rest, said + rest
        saved = json.loads((prime.home / ".prime" / "config.json").read_text())
        assert saved["api_key"] and saved["api_key"] != module_hub.token
        assert saved["user_id"] == module_hub.api.get("/user/whoami").json()["data"]["id"]
        assert module_hub.owner in prime("--plain", "whoami")


def test_row_3_without_a_key_and_with_a_wrong_one(
    module_hub: RunningHub, prime: Prime, rows: Rows, tmp_path: Path
) -> None:
    with rows(3):
        prime.token = "prime_wrong"
        assert "API key unauthorized" in prime("whoami", code=1)
        prime.variables["PRIME_API_KEY"] = ""
        assert "No API key configured" in prime("env", "push", "-p", str(write(tmp_path / "e", "no-key")), code=1)


def test_rows_4_to_12_publish_read_and_install(
    module_hub: RunningHub, prime: Prime, rows: Rows, tmp_path: Path, target: Path
) -> None:
    me = module_hub.owner
    folder = write(tmp_path / "my_words", "my-words")

    with rows(4):
        said = prime("env", "push", "-p", str(folder), "-v", "PUBLIC")
        assert f"Created environment: {me}/my-words" in said and f"Successfully pushed {me}/my-words" in said
        metadata = json.loads((folder / ".prime" / ".env-metadata.json").read_text())
        assert (metadata["owner"], metadata["name"], metadata["version"]) == (me, "my-words", "0.1.0")

    with rows(5):
        said = prime("env", "push", "-p", str(folder), "-v", "PUBLIC", code=1)
        assert f"Found existing environment: {me}/my-words" in said
        assert "HTTP 409" in said and "content hash" in said and "already exists" in said and "--auto-bump" in said
        first = taken(folder, "my-words")

    with rows(6):
        said = prime("env", "push", "-p", str(folder), "--auto-bump")
        assert "Auto-bumping version: 0.1.0 → 0.1.1" in said and "Successfully pushed" in said
        second = taken(folder, "my-words")
        assert first["pyproject.toml"] != second["pyproject.toml"]

    with rows(7):
        prime("env", "push", "-p", str(write(tmp_path / "other", "other-game")), "-v", "PUBLIC")
        for flags in (["--search", "my-words"], ["--owner", me, "-s", "my-words"], ["--mine", "-s", "my-words"]):
            found = prime.json("env", "list", "--output", "json", *flags)
            assert found["total"] == 1 and found["environments"][0]["environment"] == f"{me}/my-words", flags
            assert (found["environments"][0]["version"], found["environments"][0]["visibility"]) == ("0.1.1", "PUBLIC")
        tagged = prime.json("env", "list", "--output", "json", "--tag", "words", "--sort", "name", "--order", "asc")
        assert [row["environment"] for row in tagged["environments"]] == [f"{me}/my-words", f"{me}/other-game"]
        assert tagged["environments"][0]["tags"] == ["train", "eval", "words"]
        paged = prime.json(
            "env", "list", "--output", "json", "-n", "1", "--page", "2", "--sort", "name", "--order", "asc"
        )
        assert (paged["total"], paged["page"]) == (2, 2)
        assert [row["environment"] for row in paged["environments"]] == [f"{me}/other-game"]
        assert "No environments found." in prime("env", "list", "--search", "no-such-thing")
        assert "No environments found." in prime("env", "list", "--starred")

    with rows(8):
        status = prime.json("env", "status", f"{me}/my-words", "--output", "json")
        assert status["latest_version"]["semantic_version"] == "0.1.1" and status["visibility"] == "PUBLIC"
        assert status["latest_version"]["content_hash"] == content_hash(second)
        for reference in (f"{me}/my-words", f"{me}/my-words@0.1.0"):
            said = prime("env", "info", reference)
            assert "Install (choose one)" in said and f"{me}/simple/" in said and "Reverses a word" in said
        assert "HTTP 404" in prime("env", "info", f"{me}/nothing", code=1)

    with rows(9):
        inside = prime.json("env", "inspect", f"{me}/my-words", "-o", "json")
        assert {entry["name"] for entry in inside["entries"]} >= {"README.md", "data", "my_words.py", "pyproject.toml"}
        assert "comes out reversed" in prime("env", "inspect", f"{me}/my-words", "README.md")

    with rows(10):
        said = prime("--plain", "env", "version", "list", f"{me}/my-words", "--full-hashes")
        lines = [line.split() for line in said.splitlines() if line.startswith(("0.1.0", "0.1.1"))]
        assert [line[0] for line in lines] == ["0.1.1", "0.1.0"]
        assert content_hash(second) in lines[0] and content_hash(first) in lines[1]

    with rows(11):
        for reference, wanted in ((f"{me}/my-words", second), (f"{me}/my-words@0.1.0", first)):
            pulled = tmp_path / f"pulled-{wanted is first}"
            prime("env", "pull", reference, "-t", str(pulled))
            found = {
                str(path.relative_to(pulled)): path.read_bytes()
                for path in pulled.rglob("*")
                if path.is_file() and ".prime" not in path.parts
            }
            assert found == wanted
            assert not any((pulled / name).exists() for name in LEFT_OUT)
            assert json.loads((pulled / ".prime" / ".env-metadata.json").read_text())["owner"] == me

    with rows(12):
        prime.variables["VIRTUAL_ENV"] = str(target.parent.parent)
        for words in ([f"{me}/my-words"], [f"{me}/my-words@0.1.0"], ["--with", "pip", f"{me}/my-words"]):
            assert f"Successfully installed {me}/my-words" in prime("env", "install", *words), words
            assert imported(target, "my_words") == "one"


def test_row_13_a_private_one(module_hub: RunningHub, prime: Prime, rows: Rows, tmp_path: Path, target: Path) -> None:
    with rows(13):
        me = module_hub.owner
        prime("env", "push", "-p", str(write(tmp_path / "hidden", "hidden-words", answer="hidden")), "-v", "PRIVATE")
        said = prime("env", "info", f"{me}/hidden-words")
        assert "Install (private environment)" in said and "/simple/" not in said
        prime.variables["VIRTUAL_ENV"] = str(target.parent.parent)
        said = prime("env", "install", f"{me}/hidden-words")
        assert "Private environment detected, pulling and building..." in said
        assert imported(target, "hidden_words") == "hidden"
        stranger = Prime(module_hub, prime.home, token=module_hub.add_user("stranger"))
        assert "HTTP 404" in stranger("env", "info", f"{me}/hidden-words", code=1)
        prime.variables |= {"PRIME_API_KEY": ""}
        assert "HTTP 404" in prime("env", "info", f"{me}/hidden-words", code=1)


def test_row_14_secrets_and_variables(module_hub: RunningHub, prime: Prime, rows: Rows, tmp_path: Path) -> None:
    with rows(14):
        name = f"{module_hub.owner}/with-secrets"
        prime("env", "push", "-p", str(write(tmp_path / "e", "with-secrets")), "-v", "PUBLIC")
        for noun, shown in (("secret", False), ("var", True)):
            assert "✓" in prime("env", noun, "create", name, "-n", "A_B", "-v", "x-value", "-d", "what for")
            (row,) = listed(prime.json("env", noun, "list", name, "-o", "json"))
            assert (row["name"], row["description"]) == ("A_B", "what for")
            assert ("x-value" in json.dumps(row)) is shown
            which = [row["id"], name] if noun == "var" else [name, "--id", row["id"]]
            assert "✓" in prime("env", noun, "update", *which, "-v", "other-value")
            if shown:
                assert listed(prime.json("env", noun, "list", name, "-o", "json"))[0]["value"] == "other-value"
            prime("env", noun, "create", name, "-n", "lower", "-v", "x", code=1)
            assert "✓" in prime("env", noun, "delete", *which, "-y")
            assert listed(prime.json("env", noun, "list", name, "-o", "json")) == []
        assert "x-value" not in module_hub.log and "other-value" not in module_hub.log


def listed(printed: object) -> list[dict[str, object]]:
    """The rows of a list, however the command wraps them."""
    if isinstance(printed, dict):
        printed = next(value for value in printed.values() if isinstance(value, list))
    assert isinstance(printed, list)
    return printed


def test_row_15_a_fork(module_hub: RunningHub, prime: Prime, rows: Rows, tmp_path: Path) -> None:
    with rows(15):
        me = module_hub.owner
        folder = write(tmp_path / "e", "to-fork")
        prime("env", "push", "-p", str(folder), "-v", "PUBLIC")
        other = Prime(module_hub, prime.home, token=module_hub.add_user("forker"))
        assert f"Forked {me}/to-fork to forker/to-fork" in other("fork", f"{me}/to-fork")
        other("env", "pull", "forker/to-fork", "-t", str(tmp_path / "forked"))
        assert (tmp_path / "forked" / "to_fork.py").read_bytes() == (folder / "to_fork.py").read_bytes()


def test_row_16_deleting(module_hub: RunningHub, prime: Prime, rows: Rows, tmp_path: Path) -> None:
    with rows(16):
        name = f"{module_hub.owner}/to-delete"
        folder = write(tmp_path / "e", "to-delete")
        prime("env", "push", "-p", str(folder), "-v", "PUBLIC")
        first = content_hash(taken(folder, "to-delete"))
        prime("env", "push", "-p", str(folder), "--auto-bump")
        assert f"Version {first} deleted successfully" in prime("env", "version", "delete", name, first, "--force")
        again = prime("env", "version", "delete", name, first, "--force", code=1)
        assert "not found in environment" in again
        assert "deleted successfully" in prime("env", "delete", name, "--force")
        assert "HTTP 404" in prime("env", "delete", name, "--force", code=1)
        # A number is never given twice.
        assert "already exists" in prime("env", "push", "-p", str(folder), "-v", "PUBLIC", code=1)


@pytest.mark.parametrize("step", STEPS)
def test_a_push_that_was_cut_off_is_made_again(module_hub: RunningHub, prime: Prime, tmp_path: Path, step: str) -> None:
    folder = write(tmp_path / "e", f"cut-off-{step}")
    name = f"{module_hub.owner}/cut-off-{step}"
    lost = step in ("wheel-put", "version-finalize")
    with CuttingProxy(int(module_hub.url.rpartition(":")[2]), STEPS[step], after=lost) as proxy:
        cut = Prime(module_hub, prime.home, variables={"PRIME_API_BASE_URL": proxy.url})
        cut("env", "push", "-p", str(folder), "-v", "PUBLIC", code=1)
        assert proxy.cut.is_set()
    # Either the last step was heard, or nobody has seen anything.
    published = step == "version-finalize"
    prime("env", "info", name, code=0 if published else 1)
    said = prime("env", "push", "-p", str(folder), "-v", "PUBLIC", code=1 if published else 0)
    assert ("already exists" if published else "Successfully pushed") in said
    assert prime.json("env", "status", name, "--output", "json")["latest_version"]["semantic_version"] == "0.1.0"
