"""`prime env pull`, `list` and `info`: what is on the Hub, looked up and fetched."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile

import pytest

from tests.cli.folders import tree, write_environment


@pytest.fixture(scope="module")
def shelf(module_hub, tmp_path_factory):
    """A Hub with two environments on it, one of them in two versions; its address and owner."""
    import subprocess
    import sys
    from pathlib import Path

    base = tmp_path_factory.mktemp("shelf")
    for name, version in [("my-env", "0.1.0"), ("my-env", "0.2.0"), ("other-env", "1.0")]:
        write_environment(base, name, version)
        command = [Path(sys.executable).parent / "prime", "env", "push", name, "-p", base]
        done = subprocess.run(command, env=module_hub.environment(), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    return module_hub


@pytest.fixture
def reader(prime, shelf):
    """Somebody without a login."""
    return prime.user("reader", PRIME_API_BASE_URL=shelf.url)


def test_where_a_pull_goes(reader, shelf):
    name = f"{shelf.owner}/my-env"
    assert reader.ok("env", "pull", name) == "✓ Environment pulled to my_env\n"
    assert reader.ok("env", "pull", name) == "✓ Environment pulled to my_env-1\n"
    (reader.cwd / "environments").mkdir()
    assert reader.ok("env", "pull", name) == "✓ Environment pulled to environments/my_env\n"
    assert tree(reader.cwd / "my_env") == tree(reader.cwd / "environments" / "my_env")


def test_what_comes_next_is_said(reader, shelf):
    name = f"{shelf.owner}/my-env"
    (reader.cwd / "environments").mkdir()
    first, second = reader("env", "pull", name), reader("env", "pull", name)
    assert first.stderr == "Next:\n  prime env install my-env\n  prime eval run my-env -m baseline/random -n 5\n"
    assert second.stdout == "✓ Environment pulled to environments/my_env-1\n"
    assert second.stderr == (
        "environments/my_env is there already and stays as it is; 'my-env' goes on to mean that one. Next:\n"
        "  diff -r environments/my_env environments/my_env-1\n"
        "  prime env push -p environments/my_env-1    # publishes what is in this one\n"
    )
    other = reader("env", "pull", name, "-t", "deep/copy")
    assert "  prime env install copy -p deep\n" in other.stderr
    key = {"PRIME_API_KEY": shelf.add_user("puller")}
    assert "published my-env v0.2.0" in reader.ok(
        "env", "push", "-p", "environments/my_env-1", "--visibility", "PRIVATE", **key
    )


def test_versions(reader, shelf):
    name = f"{shelf.owner}/my-env"
    reader.ok("env", "pull", f"{name}@0.1.0", "-t", "old")
    reader.ok("env", "pull", name, "-t", "new")
    assert 'version = "0.1.0"' in (reader.cwd / "old" / "pyproject.toml").read_text()
    assert 'version = "0.2.0"' in (reader.cwd / "new" / "pyproject.toml").read_text()
    record = json.loads((reader.cwd / "old" / ".prime" / ".env-metadata.json").read_text())
    assert (record["owner"], record["name"], record["version"]) == (shelf.owner, "my-env", "0.1.0")
    assert record["origin"]["owner"] == shelf.owner
    assert "There is no version '9.9'" in reader.fails("env", "pull", f"{name}@9.9")


def test_a_pull_never_writes_over_files(reader, shelf):
    name, target = f"{shelf.owner}/my-env", reader.cwd / "mine"
    target.mkdir()
    reader.ok("env", "pull", name, "-t", target)  # an empty folder is fine
    before = tree(target)
    (target / "README.md").write_text("my own words\n")
    assert "is not empty, and a pull never writes over files" in reader.fails("env", "pull", name, "-t", target)
    assert (target / "README.md").read_text() == "my own words\n"
    assert set(tree(target)) == set(before)
    (reader.cwd / "file").write_text("")
    assert "is not a folder" in reader.fails("env", "pull", name, "-t", "file")


@pytest.mark.parametrize("wrong", ["my-env", "a/b/c", "a/../b", "a/b@", "/b", "a b/c"])
def test_what_does_not_name_an_environment(reader, wrong):
    for command in ("pull", "info"):
        error = reader.fails("env", command, wrong)
        assert "is not of the form OWNER/NAME or OWNER/NAME@VERSION" in error


def test_list(reader, shelf):
    listed = json.loads(reader.ok("env", "list", "--output", "json"))
    assert [row["environment"] for row in listed["environments"]] == [
        f"{shelf.owner}/other-env",
        f"{shelf.owner}/my-env",
    ]
    row = listed["environments"][1]
    assert (row["version"], row["visibility"], row["description"]) == ("0.2.0", "PUBLIC", "Counts to ten.")
    assert row["tags"] == ["maths", "eval"]
    assert (listed["total"], listed["page"], listed["per_page"]) == (2, 1, 20)
    done = reader("env", "ls")
    assert done.stdout.splitlines()[0].split() == [
        "ENVIRONMENT",
        "VERSION",
        "VISIBILITY",
        "STARS",
        "TAGS",
        "DESCRIPTION",
    ]
    assert f"{shelf.owner}/my-env" in done.stdout
    assert done.stderr == "Total: 2 environments\n"


def test_list_page_by_page(reader, shelf):
    first = reader("env", "list", "--limit", "1")
    assert "other-env" in first.stdout and "my-env" not in first.stdout
    assert first.stderr == "Showing page 1 of 2. Use --page 2 to see more.\n"
    second = reader("env", "list", "--limit", "1", "--page", "2")
    assert "my-env" in second.stdout
    assert reader("env", "list", "--page", "7").stderr == "There is no page 7; there are 2 environments.\n"


def test_list_what_is_looked_for(reader, shelf):
    def names(*args: str, **env: str) -> list[str]:
        rows = json.loads(reader.ok("env", "list", "--output", "json", *args, **env))["environments"]
        return sorted(row["environment"].partition("/")[2] for row in rows)

    assert names("--search", "other") == ["other-env"]
    assert names("--search", "counts") == ["my-env", "other-env"]
    assert names("--search", "nothing-like-it") == []
    assert names("--tag", "maths", "--tag", "eval") == ["my-env", "other-env"]
    assert names("--tag", "chess") == []
    assert names("--owner", shelf.owner) == ["my-env", "other-env"]
    assert names("--owner", "no-such-owner") == []
    assert names("--mine", PRIME_API_KEY=shelf.token) == ["my-env", "other-env"]
    assert names("--mine", PRIME_API_KEY=shelf.add_user("dave")) == []
    assert reader.fails("env", "list", "--mine").startswith("Error: Not authenticated.")
    assert reader("env", "list", "--owner", "no-such-owner").stderr == "No environments found.\n"


def test_info(reader, shelf):
    name = f"{shelf.owner}/my-env"
    shown = reader.ok("env", "info", name)
    for piece in ("0.2.0", "Counts to ten.", "maths, eval", "https://example.org/my-env", f"prime env install {name}"):
        assert piece in shown
    assert f"{shelf.url}/dashboard/environments/{name}" in shown
    data = json.loads(reader.ok("env", "info", f"{name}@0.1.0", "--output", "json"))
    assert (data["environment"], data["version"]) == (name, "0.1.0")
    assert data["latest_version"]["semantic_version"] == "0.2.0"
    assert data["url"] == f"{shelf.url}/dashboard/environments/{name}"


def evil_archive(kind: str) -> bytes:
    """A package such as no push makes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        good = tarfile.TarInfo("README.md")
        good.size = 2
        archive.addfile(good, io.BytesIO(b"ok"))
        bad = tarfile.TarInfo({"up": "../outside.txt", "absolute": "/outside.txt"}.get(kind, "link"))
        if kind == "link":
            bad.type, bad.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(bad)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["up", "absolute", "link", "hash"])
def test_a_package_that_is_not_safe_is_not_unpacked(prime, kind, evil_hub):
    url, serve = evil_hub
    body = evil_archive(kind)
    serve(body, hashlib.sha256(b"other" if kind == "hash" else body).hexdigest())
    error = prime.fails("env", "pull", "mallory/my-env", "-t", "deep/copy", PRIME_API_BASE_URL=url)
    assert error.startswith("Error: ")
    assert not (prime.cwd / "outside.txt").exists()
    assert not list(prime.cwd.rglob("README.md"))
    assert not list(prime.cwd.rglob(".prime*"))


@pytest.fixture
def evil_hub():
    """A server that answers a pull with whatever it is given."""
    import threading
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    state: dict[str, bytes] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = state["package"] if self.path.endswith("/package") else state["detail"]
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"

    def serve(package: bytes, sha256: str) -> None:
        state["package"] = package
        state["detail"] = json.dumps(
            {"data": {"id": "1", "name": "my-env", "package_url": f"{url}/package", "package_sha256": sha256}}
        ).encode()

    yield url, serve
    server.shutdown()
    thread.join()
    server.server_close()
