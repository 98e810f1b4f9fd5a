"""Build contexts: Docker's ignore rules, what is never sent, digests and archives that do not change by themselves."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import pytest

from prime_core.context import context_digest, context_files, write_context
from prime_core.errors import ProjectError
from prime_core.files import write_atomic
from tests.core.support import write_files


def project(folder: Path, **more: str) -> Path:
    return write_files(folder, {"Dockerfile": "FROM x\n", "server.py": "app = 1\n", **more})


def names(root: Path, dockerfile: str = "Dockerfile") -> list[str]:
    return [name for name, _ in context_files(root, dockerfile)]


def test_what_is_never_sent(tmp_path: Path):
    junk = [".build.json", "__pycache__/a.pyc", ".venv/bin/python", ".git/HEAD", "deep/__pycache__/b.pyc", "loose.pyc"]
    project(tmp_path, **dict.fromkeys(junk, "x"), **{".env.example": "A=1", "deep/data.bin": "y"})
    assert names(tmp_path) == [".env.example", "Dockerfile", "deep/data.bin", "server.py"]


@pytest.mark.parametrize(
    ("rules", "left"),
    [
        ("*.md", ["docs/a.md", "docs/deep/b.md"]),
        ("**/*.md", []),
        ("docs", ["top.md"]),
        ("/docs/", ["top.md"]),
        ("docs/*", ["top.md"]),
        ("docs/deep", ["docs/a.md", "top.md"]),
        ("docs\n!docs/a.md", ["docs/a.md", "top.md"]),
        ("**/deep\n# docs\n\n", ["docs/a.md", "top.md"]),
        ("*/*.md", ["docs/deep/b.md", "top.md"]),
        ("**\n!top.md", ["top.md"]),
        ("to?.md", ["docs/a.md", "docs/deep/b.md"]),
        ("[a-t]op.md", ["docs/a.md", "docs/deep/b.md"]),
    ],
)
def test_dockers_ignore_rules(tmp_path: Path, rules: str, left: list[str]):
    files = {"docs/a.md": "", "docs/deep/b.md": "", "top.md": "", ".dockerignore": rules}
    project(tmp_path, **files)
    assert [name for name in names(tmp_path) if name.endswith(".md")] == left


def test_the_dockerfile_is_sent_whatever_the_rules_say(tmp_path: Path):
    project(tmp_path, **{".dockerignore": "*"})
    assert names(tmp_path) == ["Dockerfile"]


def test_the_dockerfiles_own_ignore_file_comes_first(tmp_path: Path):
    rules = {".dockerignore": "server.py", "server/Dockerfile.dockerignore": "secret", "server/Dockerfile": "FROM y"}
    project(tmp_path, secret="s", **rules)
    assert "secret" in names(tmp_path)
    assert "server.py" not in names(tmp_path)
    assert "secret" not in names(tmp_path, "server/Dockerfile")
    assert "server.py" in names(tmp_path, "server/Dockerfile")


def test_a_missing_dockerfile(tmp_path: Path):
    with pytest.raises(ProjectError, match=r"No Dockerfile at .*server/Dockerfile"):
        context_files(project(tmp_path), "server/Dockerfile")


def test_links(tmp_path: Path):
    root = project(tmp_path / "proj")
    (root / "again.py").symlink_to("server.py")
    (root / ".#lock").symlink_to("nobody@nowhere")
    assert names(root) == ["Dockerfile", "again.py", "server.py"]
    (tmp_path / "secret").write_text("s")
    (root / "leak").symlink_to(tmp_path / "secret")
    with pytest.raises(ProjectError, match="'leak' is a link that leads out of"):
        context_files(root)
    (root / ".dockerignore").write_text("leak")
    assert "leak" not in names(root)
    (root / "folder").symlink_to(tmp_path)
    with pytest.raises(ProjectError, match="'folder' is a link to a folder"):
        context_files(root)


def test_the_digest_follows_content_and_place_only(tmp_path: Path):
    root = project(tmp_path)
    before = context_digest(root)
    os.utime(root / "server.py", (1, 1))
    write_atomic(root / ".build.json", "{}")
    assert context_digest(root) == before
    (root / "server.py").chmod(0o755)
    executable = context_digest(root)
    (root / "server.py").chmod(0o644)
    (root / "server.py").write_text("app = 2\n")
    changed = context_digest(root)
    (root / "server.py").rename(root / "other.py")
    assert len({before, executable, changed, context_digest(root)}) == 4


def test_the_digest_tells_two_dockerfiles_apart(tmp_path: Path):
    root = project(tmp_path, other="FROM x\n")
    assert context_digest(root, "Dockerfile") != context_digest(root, "other")


def test_the_archive_is_the_same_for_the_same_files(tmp_path: Path):
    one, two = project(tmp_path / "one", **{"a/b.txt": "é"}), project(tmp_path / "two", **{"a/b.txt": "é"})
    os.utime(two / "server.py", (1, 1))
    (one / "server.py").chmod(0o600)
    first, second = (
        write_context(root, "Dockerfile", tmp_path / f"{root.name}.tgz").read_bytes() for root in (one, two)
    )
    assert first == second
    with tarfile.open(tmp_path / "one.tgz") as archive:
        members = archive.getmembers()
        assert [(member.name, member.mode, member.mtime, member.uid, member.uname) for member in members] == [
            (name, 0o644, 0, 0, "") for name in ("Dockerfile", "a/b.txt", "server.py")
        ]


def test_an_ignore_rule_that_is_no_pattern_is_named(tmp_path: Path):
    project(tmp_path, **{".dockerignore": "*.md\n[z-a].txt\n"})
    with pytest.raises(
        ProjectError, match=r"^The ignore rule '\[z-a\]\.txt' is not a valid pattern: bad character range"
    ):
        context_files(tmp_path)
