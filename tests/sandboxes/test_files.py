"""Files of a sandbox, and folders that move as a stream; what a stranger packs stays inside the folder it goes to."""

from __future__ import annotations

import io
import os
import tarfile
import tracemalloc
from pathlib import Path

import pytest

from prime_sandboxes import APIError, AsyncSandboxClient, SandboxFileNotFoundError
from prime_sandboxes.folders import pack, unpack


@pytest.fixture
def base(box):
    box.files.make_folder("/app/work")
    yield "/app/work"
    box.files.remove("/app/work")


def test_write_look_read_remove(box, base):
    files = box.files
    assert files.write(f"{base}/new/a.txt", "héllo\n", mode=0o750) == 7
    info = files.stat(f"{base}/new/a.txt")
    assert (info.name, info.kind, info.size, info.mode & 0o777) == ("a.txt", "file", 7, 0o750)
    assert info.modified > 1_600_000_000
    assert files.read_text(f"{base}/new/a.txt") == "héllo\n"
    assert files.read(f"{base}/new/a.txt", offset=-3, length=2) == b"lo"
    assert files.read(f"{base}/new/a.txt", offset=1, length=2) == "é".encode()
    box.run(f"ln -s a.txt {base}/new/link")
    link = files.stat(f"{base}/new/link")
    assert (link.kind, link.target) == ("link", "a.txt")
    assert [(item.name, item.kind) for item in files.list(f"{base}/new")] == [("a.txt", "file"), ("link", "link")]
    assert files.exists(f"{base}/new") and not files.exists(f"{base}/none")
    files.remove(f"{base}/new")
    assert files.list(base) == []


def test_what_is_not_there_or_cannot_be_is_a_sentence(box, base, tmp_path):
    for call in (box.files.stat, box.files.list, box.files.read, box.files.remove):
        with pytest.raises(SandboxFileNotFoundError, match="none"):
            call(f"{base}/none")
    with pytest.raises(SandboxFileNotFoundError, match="none"):
        box.files.download(f"{base}/none", tmp_path / "x")
    with pytest.raises(APIError):
        box.files.list(f"{base}/../start.sh")
    with pytest.raises(FileNotFoundError):
        box.files.upload(tmp_path / "none", f"{base}/x")


def tree(folder: Path) -> dict[str, object]:
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            found[name] = path.readlink().as_posix()
        elif path.is_file():
            found[name] = (path.read_bytes(), path.stat().st_mode & 0o777)
        else:
            found[name] = None
    return found


def test_folders_go_there_and_back(box, base, tmp_path):
    source = tmp_path / "source"
    (source / "deep" / "er").mkdir(parents=True)
    (source / "empty").mkdir()
    (source / "run.sh").write_text("#!/bin/sh\necho ran\n")
    (source / "run.sh").chmod(0o755)
    (source / "deep" / "er" / "data.bin").write_bytes(os.urandom(700_000))
    (source / "deep" / "up").symlink_to("../run.sh")
    seen: list[int] = []
    moved = box.files.upload(source, f"{base}/tree", progress=seen.append)
    assert seen and seen == sorted(seen) and seen[-1] == moved >= 700_000
    assert box.run(f"{base}/tree/run.sh").stdout == "ran\n"
    box.files.download(f"{base}/tree", tmp_path / "back", progress=seen.append)
    assert tree(tmp_path / "back") == tree(source)
    # Again, onto what is there.
    (tmp_path / "back" / "run.sh").write_text("changed")
    box.files.download(f"{base}/tree", tmp_path / "back")
    assert tree(tmp_path / "back") == tree(source)


def test_a_file_goes_there_and_back(box, base, tmp_path):
    source = tmp_path / "tool"
    source.write_bytes(os.urandom(600_000))
    source.chmod(0o755)
    seen: list[int] = []
    assert box.files.upload(source, f"{base}/tool", progress=seen.append) == seen[-1] == 600_000
    assert box.files.stat(f"{base}/tool").mode & 0o777 == 0o755
    box.files.download(f"{base}/tool", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == source.read_bytes()


async def test_a_folder_is_never_whole_in_memory(box, base, connection, tmp_path):
    source = tmp_path / "large"
    source.mkdir()
    for number in range(4):
        with (source / f"{number}.bin").open("wb") as file:
            file.truncate(16 << 20)
    async with AsyncSandboxClient(connection) as client:
        files = client.files(box.id)
        await files.list(base)
        tracemalloc.start()
        try:
            await files.upload(source, f"{base}/large")
            await files.download(f"{base}/large", tmp_path / "back")
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak < 16 << 20
    assert sum(path.stat().st_size for path in (tmp_path / "back").iterdir()) == 64 << 20


def test_a_full_disk_here_is_an_error_and_leaves_the_file_as_it_was(box, base, tmp_path):
    box.files.write(f"{base}/a", "new")
    (tmp_path / "target").mkdir()
    with pytest.raises(OSError, match="target"):
        box.files.download(f"{base}/a", tmp_path / "target")
    assert list(tmp_path.iterdir()) == [tmp_path / "target"]


class Count:
    def add(self, size: int) -> None:
        pass


def archive(*members: tuple[str, bytes, dict[str, object]]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for name, content, more in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            for field, value in more.items():
                setattr(member, field, value)
            tar.addfile(member, io.BytesIO(content))
    return made.getvalue()


async def unpacked(data: bytes, target: Path) -> None:
    async def pieces():
        for start in range(0, len(data), 1000):
            yield data[start : start + 1000]

    await unpack(pieces(), target, Count())


@pytest.mark.parametrize("name", ["../out", "/tmp/prime-out", "a/../../out"])
async def test_a_name_that_leads_out_is_refused(tmp_path, name):
    with pytest.raises(APIError, match="leads out of the folder"):
        await unpacked(archive((name, b"x", {})), tmp_path / "in")
    assert not (tmp_path / "out").exists() and not Path("/tmp/prime-out").exists()


async def test_no_link_leads_out_and_none_is_written_through(tmp_path):
    link = {"type": tarfile.SYMTYPE}
    data = archive(
        ("deep/a/b", b"", {"type": tarfile.DIRTYPE, "mode": 0o700}),
        ("out", b"", {**link, "linkname": ".."}),
        ("abs", b"", {**link, "linkname": "/etc"}),
        ("deep/a/b/root", b"", {**link, "linkname": "../../.."}),
        ("twisted", b"", {**link, "linkname": "deep/a/b/root/.."}),
        ("deep/up", b"", {**link, "linkname": "../inner"}),
        ("inner", b"kept", {"mode": 0o4777}),
        ("hard", b"", {"type": tarfile.LNKTYPE, "linkname": "inner"}),
        ("hard-out", b"", {"type": tarfile.LNKTYPE, "linkname": "../secret"}),
        ("pipe", b"", {"type": tarfile.FIFOTYPE}),
        ("device", b"", {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 3}),
    )
    (tmp_path / "secret").write_text("not theirs")
    target = tmp_path / "in"
    await unpacked(data, target)
    names = {path.relative_to(target).as_posix() for path in target.rglob("*")}
    assert names == {"deep", "deep/a", "deep/a/b", "deep/a/b/root", "deep/up", "inner", "hard"}
    assert (target / "inner").stat().st_mode & 0o7700 == 0o700
    assert (target / "hard").read_text() == (target / "deep" / "up").read_text() == "kept"

    # A second archive writes through none of the links that are there: not one of the first, not one of one's own.
    with pytest.raises(NotADirectoryError):
        await unpacked(archive(("deep/a/b/root/inner", b"changed", {})), target)
    (target / "mine").symlink_to(tmp_path)
    with pytest.raises(NotADirectoryError):
        await unpacked(archive(("mine/secret", b"changed", {})), target)
    await unpacked(archive(("mine", b"a file now", {})), target)
    assert (tmp_path / "secret").read_text() == "not theirs"
    assert (target / "mine").read_text() == "a file now"


async def test_half_an_archive_is_an_error(tmp_path):
    data = archive(("a", b"x" * 5000, {}), ("b", b"y" * 5000, {}))
    with pytest.raises(APIError, match="no whole archive"):
        await unpacked(data[:7000], tmp_path / "in")
    with pytest.raises(APIError, match="no whole archive"):
        await unpacked(b"<html>not an archive</html>" * 100, tmp_path / "in2")


async def test_packing_that_is_given_up_leaves_no_thread(tmp_path):
    import threading

    (tmp_path / "big").write_bytes(bytes(8 << 20))
    pieces = pack(tmp_path, Count())
    await anext(pieces)
    await pieces.aclose()
    assert not [thread for thread in threading.enumerate() if "pack" in thread.name]
