"""What is published, its hash, and archives that are never unpacked."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import random
import tarfile
from pathlib import Path

import pytest

from prime_core.errors import PackagingError
from prime_core.packaging import archive_files, content_hash, extract_archive, hash_archive, write_source_archive
from tests.core.support import make_environment, make_openenv, write_files


def names(folder: Path) -> list[str]:
    return [name for name, _ in archive_files(folder)]


def pack(target: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(target, "w:gz") as archive:
        for member, content in members:
            archive.addfile(member, io.BytesIO(content))
    return target


def member(name: str, content: bytes = b"x", **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


def test_the_official_rule(tmp_path: Path):
    junk = ["notes.txt", ".env", ".hidden/a.py", "data/.hid", "data/__pycache__/a.pyc", "dist/a.whl", "data/build/b"]
    junk += ["outputs/c", "x.egg-info/PKG", "data/a.log", ".gitignore", "secret.py"]
    folder = make_environment(tmp_path, files={**dict.fromkeys(junk, "x"), "data/a.txt": "a", "data/deep/b.txt": "b"})
    (folder / ".gitignore").write_text("*.log\n/secret.py\n")
    (folder / "data" / "link").symlink_to("a.txt")
    os.link(folder / "data" / "a.txt", folder / "data" / "hard")
    expected = ["README.md", "data/a.txt", "data/deep/b.txt", "data/hard", "my_env.py", "pyproject.toml"]
    assert names(folder) == expected


def test_the_manifest_of_an_openenv_environment_is_published(tmp_path: Path):
    folder = make_openenv(tmp_path)
    (folder / ".gitignore").write_text("proj/.build.json\n")
    assert "proj/.build.json" in names(folder)
    assert "proj/Dockerfile" in names(folder)


def test_what_hatch_includes_is_published_too(tmp_path: Path):
    files = {
        "notes.txt": "n",
        "data/.hid": "h",
        ".env": "SECRET=1",
        "data/.venv/x": "v",
        "data/a.log": "l",
        "b.log": "l",
    }
    build = '[tool.hatch.build]\ninclude = ["*.txt", "data/.hid", "*", "b.log"]\n'
    folder = make_environment(tmp_path, more=build, files=files)
    (folder / ".gitignore").write_text("*.log\n")
    assert names(folder) == ["README.md", "b.log", "data/.hid", "my_env.py", "notes.txt", "pyproject.toml"]


@pytest.mark.parametrize(
    ("files", "wrong"),
    [
        (["data/a.txt", "data/A.txt"], "are one name"),
        (["data/caf\u00e9", "data/cafe\u0301"], "are one name"),
        (["data/x\u200b.txt"], "characters that cannot be seen"),
        (["data/back\\slash"], "would lie outside its folder"),
    ],
)
def test_names_that_a_hub_would_refuse_are_not_packed(tmp_path: Path, files: list[str], wrong: str):
    folder = make_environment(tmp_path, files=dict.fromkeys(files, "x"))
    with pytest.raises(PackagingError, match=wrong):
        archive_files(folder)


def test_the_content_hash_is_the_protocols(tmp_path: Path):
    folder = make_environment(tmp_path, files={"data/é.txt": "é", "data-2/x": "", "Z/y": "y"})
    digest = hashlib.sha256()
    for name in sorted(names(folder)):
        digest.update(b"file:" + name.encode() + (folder / name).read_bytes())
    assert content_hash(archive_files(folder)) == digest.hexdigest()
    assert content_hash(reversed(archive_files(folder))) == digest.hexdigest()


def test_an_archive_is_the_same_for_the_same_files_and_hashes_alike(tmp_path: Path):
    one, two = make_openenv(tmp_path / "one"), make_openenv(tmp_path / "two")
    os.utime(two / "my_env.py", (1, 1))
    archives = [write_source_archive(folder, tmp_path / f"{folder.parent.name}.tgz") for folder in (one, two)]
    assert archives[0].read_bytes() == archives[1].read_bytes()
    assert hash_archive(archives[0]) == content_hash(archive_files(one))


def test_the_hash_does_not_depend_on_the_order_or_the_prefix(tmp_path: Path):
    folder = make_openenv(tmp_path)
    files = archive_files(folder)
    random.Random(1).shuffle(files)
    members = [member(f"./{name}", path.read_bytes(), mtime=5) for name, path in files]
    packed = pack(tmp_path / "a.tgz", member("./proj", b"", type=tarfile.DIRTYPE), *members)
    assert hash_archive(packed) == content_hash(files)


def test_what_is_unpacked_is_what_was_packed(tmp_path: Path):
    folder = make_openenv(tmp_path)
    (folder / "my_env.py").chmod(0o755)
    archive = write_source_archive(folder, tmp_path / "a.tgz")
    target = tmp_path / "deep" / "out"
    unpacked = extract_archive(archive, target)
    assert unpacked == names(folder)
    for name, path in archive_files(folder):
        assert (target / name).read_bytes() == path.read_bytes()
    assert os.access(target / "my_env.py", os.X_OK)
    assert not os.access(target / "README.md", os.X_OK)
    assert [path.name for path in target.parent.iterdir()] == ["out"]


def test_unpacking_over_files_replaces_them(tmp_path: Path):
    archive = write_source_archive(make_openenv(tmp_path), tmp_path / "a.tgz")
    target = write_files(tmp_path / "out", {"my_env.py": "old", "mine.txt": "mine"})
    extract_archive(archive, target)
    assert "load_environment" in (target / "my_env.py").read_text()
    assert (target / "mine.txt").read_text() == "mine"


def test_nothing_is_written_through_a_link_of_the_target(tmp_path: Path):
    archive = write_source_archive(make_openenv(tmp_path), tmp_path / "a.tgz")
    outside, target = tmp_path / "outside", tmp_path / "out"
    outside.mkdir()
    target.mkdir()
    (target / "proj").symlink_to(outside)
    with pytest.raises(PackagingError, match="through a link"):
        extract_archive(archive, target)
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize(
    ("bad", "wrong"),
    [
        ([member("../evil")], "would lie outside its folder"),
        ([member("a/../../evil")], "would lie outside its folder"),
        ([member("/etc/evil")], "would lie outside its folder"),
        ([member("C:/evil")], "is a drive on Windows"),
        ([member("a\\b")], "would lie outside its folder"),
        ([member("a\nb")], "characters that cannot be seen"),
        ([member("a//b")], "is not a plain path"),
        ([member("a/./b")], "is not a plain path"),
        ([member("link", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd")], "is a link or a device"),
        ([member("hard", b"", type=tarfile.LNKTYPE, linkname="README.md")], "is a link or a device"),
        ([member("pipe", b"", type=tarfile.FIFOTYPE)], "is a link or a device"),
        ([member("dev", b"", type=tarfile.CHRTYPE)], "is a link or a device"),
        ([member("a"), member("a", b"y")], "is there twice"),
        ([member("a"), member("a/b")], "is a file and a folder at once"),
        ([member("a/b"), member("a")], "is a file and a folder at once"),
        ([member(f"n{number}") for number in range(11)], "more than 10 entries"),
        ([member("a", bytes(600)), member("b", bytes(600))], "more than 1000 bytes"),
        ([member("n" * 70_000)], "a header that is too large"),
    ],
)
def test_what_is_never_unpacked(tmp_path: Path, bad: list[tuple[tarfile.TarInfo, bytes]], wrong: str):
    archive = pack(tmp_path / "a.tgz", *bad)
    target = tmp_path / "in" / "target"
    for unpack in (
        lambda: extract_archive(archive, target, max_members=10, max_bytes=1000),
        lambda: hash_archive(archive, max_members=10, max_bytes=1000),
    ):
        with pytest.raises(PackagingError, match=wrong):
            unpack()
    assert list(target.parent.iterdir()) == []


def test_a_bomb_is_stopped_while_it_unpacks(tmp_path: Path):
    info = tarfile.TarInfo("zeros")
    info.size = 1 << 40
    with gzip.open(tmp_path / "a.tgz", "wb") as packed:
        packed.write(info.tobuf())
        packed.write(bytes(50_000_000))
    with pytest.raises(PackagingError, match="more than 1000000 bytes"):
        extract_archive(tmp_path / "a.tgz", tmp_path / "out", max_bytes=1_000_000)


def test_padding_counts_as_well(tmp_path: Path):
    with gzip.open(tmp_path / "a.tgz", "wb") as packed:
        packed.write(member("a")[0].tobuf() + b"x".ljust(512, b"\0"))
        for _ in range(200):
            info = member("pad", b"", type=tarfile.GNUTYPE_LONGNAME)[0]
            info.size = 60_000
            packed.write(info.tobuf() + bytes(60_416))
    with pytest.raises(PackagingError):
        extract_archive(tmp_path / "a.tgz", tmp_path / "out", max_members=10, max_bytes=1000)


@pytest.mark.parametrize("damage", ["cut", "flip", "plain", "empty"])
def test_a_damaged_archive(tmp_path: Path, damage: str):
    archive = write_source_archive(make_openenv(tmp_path), tmp_path / "a.tgz")
    content = bytearray(archive.read_bytes())
    if damage == "cut":
        content = content[: len(content) // 2]
    elif damage == "flip":
        content[len(content) // 2] ^= 0xFF
    else:
        content = bytearray(b"not an archive" if damage == "plain" else b"")
    archive.write_bytes(content)
    with pytest.raises(PackagingError, match=r"a\.tgz is not a complete \.tar\.gz archive"):
        hash_archive(archive)
