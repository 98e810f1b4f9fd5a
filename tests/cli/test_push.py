"""`prime env push`: the seed's lines and sentences, and nothing published when something is wrong."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest

from tests.cli.folders import tree, write_environment, write_openenv


def published(author, hub) -> list[str]:
    """`name version` of everything that this account has on the Hub, all versions."""
    rows = json.loads(author.ok("env", "list", "--mine", "--output", "json"))["environments"]
    return [
        f"{row['environment'].partition('/')[2]} {version['version']}"
        for row in rows
        for version in hub.api.get(f"/environmentshub/{row['environment']}/versions").json()["data"]["versions"]
    ]


def test_the_four_lines_of_the_seed(author, module_hub):
    write_environment(author.cwd / "environments")
    done = author("env", "push", "my-env")
    assert done.returncode == 0, done.stderr
    assert done.stdout == (
        "Pushing environment my-env to Environments Hub...\n"
        "Uploading package...\n"
        "Successfully published my-env v0.1.0\n"
        f"View at: {module_hub.url}/dashboard/environments/{author.name}/my-env\n"
    )
    assert done.stderr == (
        f"{author.name}/my-env is new, and everybody finds and installs it "
        f"('prime env visibility {author.name}/my-env PRIVATE' changes that).\n"
    )
    page = module_hub.client(module_hub.token).get(done.stdout.rpartition("View at: ")[2].strip())
    assert page.status_code == 200
    assert "my-env" in page.text


def test_what_this_hub_cannot_install_is_said(author, module_hub):
    folder = write_environment(author.cwd / "environments")
    pyproject = folder / "pyproject.toml"
    needing = 'dependencies = ["verifiers>=0.2.000", "prime-core", "verifiers>=7; extra == \'all\'"]'
    text = re.sub(r"dependencies = \[[^]]*\]", needing, pyproject.read_text())
    assert needing in text
    pyproject.write_text(text)
    done = author("env", "push", "my-env", "--no-check")
    assert done.returncode == 0, done.stderr
    warned = [line for line in done.stderr.splitlines() if line.startswith("Warning:") and "It needs" in line]
    assert (
        len(warned) == 1
        and f"{author.name}/my-env 0.1.0: It needs verifiers>=0.2.000, and this Hub serves" in warned[0]
    )
    page = module_hub.client(module_hub.token).get(f"{module_hub.url}/dashboard/environments/{author.name}/my-env")
    assert "It needs verifiers&gt;=0.2.000, and this Hub serves verifiers 0.1." in page.text


def test_a_version_exists_once(author, module_hub):
    folder = write_environment(author.cwd / "environments")
    author.ok("env", "push", "my-env")
    done = author("env", "push", "my-env")
    assert done.returncode == 1
    assert done.stderr.splitlines()[0] == "Error: Version 0.1.0 already exists"
    # Also with other contents: a version never changes.
    (folder / "my_env.py").write_text("def load_environment():\n    return 11\n")
    assert author.fails("env", "push", "my-env").splitlines()[0] == "Error: Version 0.1.0 already exists"
    pyproject = folder / "pyproject.toml"
    pyproject.write_text(pyproject.read_text().replace('version = "0.1.0"', 'version = "0.1.1"'))
    assert "Successfully published my-env v0.1.1\n" in author.ok("env", "push", "my-env")
    assert published(author, module_hub) == ["my-env 0.1.1", "my-env 0.1.0"]


@pytest.mark.parametrize(
    ("args", "where"),
    [
        (("my-env", "--path", "other"), "other"),
        (("my_env", "-p", "other"), "other"),
        (("somebody/my-env", "-p", "other"), "other"),
        (("-p", "other/my_env"), "other"),
    ],
)
def test_other_folders(author, args, where):
    write_environment(author.cwd / where)
    assert "Successfully published my-env v0.1.0" in author.ok("env", "push", *args)


def test_the_folder_one_is_in(author):
    folder = write_environment(author.cwd / "environments")
    assert "Successfully published my-env v0.1.0" in author.ok("env", "push", cwd=folder)


def test_not_logged_in(prime, module_hub):
    write_environment(prime.cwd / "environments")
    done = prime("env", "push", "my-env", PRIME_API_BASE_URL=module_hub.url)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "Error: Not authenticated. Run 'prime login' first.\n"


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (
            lambda folder: (folder / "pyproject.toml").unlink(),
            "Error: No pyproject.toml found in environment directory",
        ),
        (lambda folder: (folder / "README.md").unlink(), "Error: No README.md found"),
        (lambda folder: (folder / "my_env.py").write_text("x = 1\n"), "Error: No load_environment function found"),
        (lambda folder: (folder / "my_env.py").unlink(), "Error: No environment Python file found"),
        (lambda folder: (folder / "pyproject.toml").write_text("[project\n"), "is not valid TOML"),
        (lambda folder: _replace(folder, "0.1.0", "one"), "is not a version number (PEP 440)"),
        (lambda folder: _replace(folder, 'description = "Counts to ten."', ""), "[project].description is missing"),
        (lambda folder: _replace(folder, 'name = "my-env"', ""), "[project].name must be"),
    ],
)
def test_a_folder_that_is_not_in_order_is_a_sentence(author, module_hub, spoil, sentence):
    spoil(write_environment(author.cwd / "environments"))
    done = author("env", "push", "my-env")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: ")
    assert sentence in done.stderr.splitlines()[0]
    assert published(author, module_hub) == []


def _replace(folder: Path, old: str, new: str) -> None:
    path = folder / "pyproject.toml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def test_a_folder_that_is_not_there(author):
    error = author.fails("env", "push", "nothing")
    assert "Environment 'nothing' not found at ./environments/nothing." in error
    assert "prime env init nothing" in error


def test_an_openenv_environment_without_a_manifest(author, module_hub):
    write_openenv(author.cwd / "environments")
    done = author("env", "push", "my-game", "--no-build")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[0] == "Error: OpenEnv environment requires .build.json. Run 'vf-build' first."
    assert published(author, module_hub) == []


def test_an_openenv_environment_is_published_with_its_project_and_manifest(author):
    folder = write_openenv(author.cwd / "environments")
    manifest = {
        "image": "registry.prime.box/my-game:latest",
        "port": 8000,
        "start_command": "uvicorn server:app --host 0.0.0.0 --port 8000",
        "contract": "gym",
    }
    (folder / "proj" / ".build.json").write_text(json.dumps(manifest))
    author.ok("env", "push", "my-game", "--no-build")
    copy = author.cwd / "copy"
    author.ok("env", "pull", f"{author.name}/my-game", "-t", copy)
    assert {name for name in tree(copy) if name.startswith("proj/")} == {
        "proj/.build.json",
        "proj/Dockerfile",
        "proj/requirements.txt",
        "proj/server.py",
    }
    info = json.loads(author.ok("env", "info", f"{author.name}/my-game", "-o", "json"))
    assert info["image"]["reference"] == manifest["image"]


def test_the_pulled_tree_is_the_pushed_one(author):
    folder = write_environment(author.cwd / "environments")
    author.ok("env", "push", "my-env")
    assert (
        author.ok("env", "pull", f"{author.name}/my-env@0.1.0", "--target", "copy") == "✓ Environment pulled to copy\n"
    )
    wanted = {
        name: content
        for name, content in tree(folder).items()
        if name not in (".secret",) and not name.startswith("__pycache__/")
    }
    assert "extra/.hidden.json" in wanted
    assert tree(author.cwd / "copy") == wanted
    # The Hub's content hash is that of these files (protocols/hub.md §3.2).
    digest = hashlib.sha256()
    for name in sorted(wanted):
        digest.update(f"file:{name}".encode() + wanted[name])
    assert (
        json.loads(author.ok("env", "info", f"{author.name}/my-env", "-o", "json"))["content_hash"]
        == digest.hexdigest()
    )


def test_what_was_published_is_noted_in_the_folder(author):
    folder = write_environment(author.cwd / "environments")
    author.ok("env", "push", "my-env")
    record = json.loads((folder / ".prime" / ".env-metadata.json").read_text())
    assert (record["owner"], record["name"], record["version"]) == (author.name, "my-env", "0.1.0")
    assert re.fullmatch(r"[0-9a-f]{64}", record["wheel_sha256"])
    assert record["environment_id"] and record["pushed_at"]
    assert "origin" not in record


def test_a_pulled_environment_published_by_somebody_else_remembers_its_origin(author, module_hub):
    write_environment(author.cwd / "environments")
    author.ok("env", "push", "my-env")
    bob = author.user("bob", PRIME_API_BASE_URL=module_hub.url, PRIME_API_KEY=module_hub.add_user("bob"))
    bob.ok("env", "pull", f"{author.name}/my-env")
    assert "published my-env v0.1.0" in bob.ok("env", "push", "my-env", "-p", ".")
    record = json.loads((bob.cwd / "my_env" / ".prime" / ".env-metadata.json").read_text())
    assert record["owner"] == "bob"
    assert record["forked_from"]["owner"] == record["origin"]["owner"] == author.name
    assert [one["owner"] for one in record["fork_chain"]] == [author.name]


@pytest.mark.parametrize(
    ("flag", "versions"),
    [
        ("--auto-bump", ["0.1.1", "0.1.2"]),
        ("--rc", ["0.1.0rc0", "0.1.0rc1"]),
        ("--post", ["0.1.0.post0", "0.1.0.post1"]),
    ],
)
def test_raising_the_version(author, flag, versions):
    folder = write_environment(author.cwd / "environments")
    for before, after in zip(["0.1.0", *versions], versions, strict=False):
        done = author("env", "push", "my-env", flag)
        assert done.returncode == 0, done.stderr
        assert done.stderr.splitlines()[0] == f"Auto-bumping version: {before} → {after}"
        assert len(done.stderr.splitlines()) == (2 if after == versions[0] else 1), "it is new once"
        assert f"Successfully published my-env v{after}\n" in done.stdout
        text = (folder / "pyproject.toml").read_text()
        assert f'version = "{after}"' in text
        assert 'requires-python = ">=3.11"' in text


def test_no_candidate_goes_behind_the_newest_release(author, module_hub):
    folder = write_environment(author.cwd / "environments")
    author.ok("env", "push", "my-env")

    def pushed(version: str, *flag: str) -> str:
        pyproject = (folder / "pyproject.toml").read_text()
        (folder / "pyproject.toml").write_text(re.sub('(?m)^version = ".*"', f'version = "{version}"', pyproject))
        found = re.search(r"published my-env v(\S+)", author.ok("env", "push", "my-env", *flag))
        assert found is not None
        return found[1]

    assert pushed("0.1.0", "--rc") == "0.1.1rc0"
    assert pushed("0.1.1rc0", "--rc") == "0.1.1rc1"
    assert pushed("0.1.1") == "0.1.1"
    assert pushed("0.1.1rc1", "--rc") == "0.1.2rc0"
    assert pushed("0.1.1rc1", "--post") == "0.1.1.post0"
    assert pushed("0.4.0") == "0.4.0"
    assert pushed("0.1.1rc1", "--auto-bump") == "0.4.1"
    # A release of one's own choice is still raised as it is written (protocols/hub.md §3.2).
    assert pushed("0.1.1", "--auto-bump") == "0.1.2"
    assert pushed("0.1.0", "--post") == "0.1.0.post0"


def test_a_raised_version_comes_back_when_the_push_fails(author):
    folder = write_environment(author.cwd / "environments")
    before = (folder / "pyproject.toml").read_bytes()
    author.fails("env", "push", "my-env", "--auto-bump", "--owner", "somebody-else")
    assert (folder / "pyproject.toml").read_bytes() == before
    assert "give only one of" in author.fails("env", "push", "my-env", "--auto-bump", "--rc", code=2)


def test_a_private_environment_is_for_its_owner(author, module_hub):
    write_environment(author.cwd / "environments")
    author.ok("env", "push", "my-env", "--visibility", "private")
    name = f"{author.name}/my-env"
    assert json.loads(author.ok("env", "info", name, "-o", "json"))["visibility"] == "PRIVATE"
    stranger = author.user("stranger", PRIME_API_BASE_URL=module_hub.url)
    assert stranger.fails("env", "info", name).startswith(f"Error: There is no environment '{name}'")
    assert stranger.fails("env", "pull", name).startswith("Error: There is no environment")
    assert name not in stranger.ok("env", "list", "--limit", "250")
    assert name in author.ok("env", "list", "--limit", "250")


def test_nobody_publishes_under_another_name(author, module_hub):
    module_hub.add_user("carol")
    write_environment(author.cwd / "environments")
    assert "may not publish under the name of carol" in author.fails("env", "push", "my-env", "--owner", "carol")
    assert published(author, module_hub) == []


def test_a_version_that_exists_is_not_built_first(author):
    folder = write_openenv(author.cwd / "environments")
    manifest = {"image": "x:latest", "port": 8000, "start_command": "python server.py", "contract": "gym"}
    (folder / "proj" / ".build.json").write_text(json.dumps(manifest))
    author.ok("env", "push", "my-game", "--no-build")
    before = tree(folder)
    done = author("env", "push", "my-game")
    assert (done.returncode, done.stdout) == (1, ""), done.stderr
    assert done.stderr.splitlines()[0] == "Error: Version 0.1.0 already exists"
    assert tree(folder) == before


def test_a_version_is_not_raised_to_one_that_exists(author):
    folder = write_environment(author.cwd / "environments")
    author.ok("env", "push", "my-env")
    author.ok("env", "push", "my-env", "--auto-bump")
    _replace(folder, 'version = "0.1.1"', 'version = "0.1.0"')
    before = (folder / "pyproject.toml").read_bytes()
    done = author("env", "push", "my-env", "--auto-bump")
    assert done.returncode == 1 and done.stderr.startswith("Error: Version 0.1.1 already exists\n")
    assert (folder / "pyproject.toml").read_bytes() == before


def test_only_the_projects_version_is_rewritten(author):
    folder = write_environment(author.cwd / "environments")
    path = folder / "pyproject.toml"
    other = '[tool.other]\nversion = "0.1.0"\nmin_version = "0.1.0"\n'
    path.write_text(f'{other}\n{path.read_text()}\n# version = "0.1.0"\n'.replace("\n", "\r\n"), newline="")
    before = path.read_bytes()
    author.ok("env", "push", "my-env", "--post")
    assert path.read_bytes() == before.replace(b'\r\nversion = "0.1.0"\r\ntags', b'\r\nversion = "0.1.0.post0"\r\ntags')


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('version = "0.1.0"', 'dynamic = ["version"]', "must be written there, not computed"),
        ('description = "Counts to ten."', 'description = """\nversion = "0.1.0"\n"""', "changing something else"),
    ],
)
def test_versions_that_cannot_be_raised_are_a_sentence(author, old, new, sentence):
    folder = write_environment(author.cwd / "environments")
    _replace(folder, old, new)
    before = (folder / "pyproject.toml").read_bytes()
    assert sentence in author.fails("env", "push", "my-env", "--auto-bump").splitlines()[0]
    assert (folder / "pyproject.toml").read_bytes() == before
