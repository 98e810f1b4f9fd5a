"""Checks of a sandbox's file system."""

from __future__ import annotations

import gzip
import io
import os
import random
import tarfile

from prime_hub.runner.runtimes.conformance.checks import check
from prime_hub.runner.runtimes.conformance.host import Host, expect


def _files(box: str, more: str = "") -> str:
    return f"/sandboxes/{box}/files{more}"


@check()
def up_and_down(host: Host) -> None:
    """A file of some megabytes goes in, is seen by commands, and comes out the same; windows of it too."""
    data = os.urandom(5_000_000)
    with host.sandbox() as box:
        path = "/tmp/new/folder/data.bin"
        answer = host.call("PUT", _files(box), params={"path": path}, content=data)
        expect(answer["size"] == len(data), f"{answer}")
        expect(host.shell(box, f"wc -c < {path}")["stdout"].strip() == str(len(data)), "commands see another size")
        whole = host.send("GET", _files(box), params={"path": path})
        expect(whole.content == data, "it came out differently")
        part = host.send("GET", _files(box), params={"path": path, "offset": -1000, "length": 10})
        expect(part.content == data[-1000:-990] and part.headers["x-file-size"] == str(len(data)), "a window is wrong")
        host.call("PUT", _files(box), params={"path": path}, content=b"again")
        expect(host.shell(box, f"cat {path}")["stdout"] == "again", "it was not replaced")
        host.call("PUT", _files(box), params={"path": "beside.txt"}, content=b"in the working folder")
        expect(host.shell(box, "cat beside.txt")["stdout"] == "in the working folder", "relative paths go elsewhere")


@check()
def entries(host: Host) -> None:
    """Entries are described and listed, made and removed."""
    with host.sandbox() as box:
        host.shell(box, "mkdir -p /tmp/here && cd /tmp/here && echo 12345 > file && chmod 640 file && ln -s file link")
        found = host.call("GET", _files(box, "/stat"), params={"path": "/tmp/here/file"})
        expect((found["kind"], found["size"], found["mode"]) == ("file", 6, 0o640), f"{found}")
        link = host.call("GET", _files(box, "/stat"), params={"path": "/tmp/here/link"})
        expect((link["kind"], link["target"]) == ("link", "file"), f"{link}")
        host.call("POST", _files(box, "/folder"), params={"path": "/tmp/here/sub/deep"})
        listed = host.call("GET", _files(box, "/entries"), params={"path": "/tmp/here"})["entries"]
        expect([item["path"] for item in listed] == ["/tmp/here/file", "/tmp/here/link", "/tmp/here/sub"], f"{listed}")
        expect([item["kind"] for item in listed] == ["file", "link", "folder"], f"{listed}")
        host.call("DELETE", _files(box), params={"path": "/tmp/here/sub"})
        host.call("DELETE", _files(box), params={"path": "/tmp/here/link"})
        expect(host.shell(box, "ls /tmp/here")["stdout"] == "file\n", "a link's target went, or a folder did not")
        host.refused(404, "DELETE", _files(box), params={"path": "/tmp/here/link"})


@check()
def what_is_no_file(host: Host) -> None:
    """A missing file is 404; folders, devices and pipes are refused and never read."""
    with host.sandbox() as box:
        for more in ("", "/stat"):
            host.refused(404, "GET", _files(box, more), params={"path": "/tmp/not/there"})
        host.refused(404, "GET", _files(box, "/entries"), params={"path": "/tmp/not/there"})
        host.shell(box, "mkfifo /tmp/pipe; ln -s /dev/zero /tmp/endless; ln -s /tmp/pipe /tmp/to-pipe")
        for path in ("/tmp", "/dev/zero", "/tmp/pipe", "/tmp/endless", "/tmp/to-pipe"):
            answer = host.send("GET", _files(box), params={"path": path})
            expect(answer.status_code in (404, 422), f"reading {path} answered {answer.status_code}")
        expect(host.shell(box, "echo well")["stdout"] == "well\n", "the sandbox is not well after it")


@check()
def names_that_are_no_text(host: Host) -> None:
    """Names are bytes: those that are no text are told with a replacement, and stand in nobody's way."""
    with host.sandbox() as box:
        host.shell(box, "mkdir /tmp/odd && cd /tmp/odd && touch plain \"$(printf 'a\\377b')\"")
        host.shell(box, "cd /tmp/odd && ln -s \"$(printf 'to\\377')\" link")
        found = host.call("GET", _files(box, "/entries"), params={"path": "/tmp/odd"})["entries"]
        told = sorted((entry["path"], entry["target"]) for entry in found)
        wanted = [("/tmp/odd/a\ufffdb", None), ("/tmp/odd/link", "to\ufffd"), ("/tmp/odd/plain", None)]
        expect(told == wanted, f"{told}")
        link = host.call("GET", _files(box, "/stat"), params={"path": "/tmp/odd/link"})
        expect(link["target"] == "to\ufffd", f"{link}")


@check()
def whole_folders(host: Host) -> None:
    """A folder goes in and comes out as an archive; an entry that would lie elsewhere is refused."""
    with host.sandbox() as box:
        archive = _archive({"a.txt": b"one", "sub/b.txt": b"two"})
        answer = host.send("PUT", _files(box, "/tree"), params={"path": "/tmp/tree"}, content=archive)
        expect(answer.status_code == 200, answer.text)
        expect(host.shell(box, "cat /tmp/tree/a.txt /tmp/tree/sub/b.txt")["stdout"] == "onetwo", "it is not all there")
        out = host.send("GET", _files(box, "/tree"), params={"path": "/tmp/tree"})
        with tarfile.open(fileobj=io.BytesIO(out.content)) as found:
            names = sorted(member.name.removeprefix("./").rstrip("/") for member in found if member.isfile())
        expect(names == ["a.txt", "sub/b.txt"], f"{names}")
        answer = host.send(
            "PUT", _files(box, "/tree"), params={"path": "/tmp/tree"}, content=_archive({"../../out": b"x"})
        )
        expect(host.shell(box, "test -e /out || test -e /tmp/out")["exit_code"] == 1, "an entry left its folder")


@check()
def archives_packed_and_broken(host: Host) -> None:
    """An archive may be compressed; one that is none, or not whole, is refused in a sentence."""
    archive = _archive({"a.txt": random.randbytes(50_000), "b.txt": b"two"})
    packed = gzip.compress(archive)
    with host.sandbox() as box:
        answer = host.send("PUT", _files(box, "/tree"), params={"path": "/tmp/packed"}, content=packed)
        expect(answer.status_code == 200, answer.text)
        expect(host.shell(box, "cat /tmp/packed/b.txt")["stdout"] == "two", "it is not all there")
        for broken in (b"", b"no archive", archive[:300], archive[:20_000], packed[:40], packed[:20_000]):
            said = host.refused(422, "PUT", _files(box, "/tree"), params={"path": "/tmp/broken"}, content=broken)
            expect("cannot be unpacked into /tmp/broken" in said, f"{len(broken)} bytes: {said}")


@check("isolating")
def links_stay_inside(host: Host) -> None:
    """Links that a stranger's code makes lead nowhere out of the sandbox, for reading nor for writing."""
    mark = host.folder / "outside.txt"
    mark.write_text("of the host")
    with host.sandbox() as box:
        host.shell(box, f"mkdir -p /tmp/trap && ln -s {mark} /tmp/trap/file && ln -s {mark.parent} /tmp/trap/folder")
        for path in ("/tmp/trap/file", f"/tmp/trap/folder/{mark.name}"):
            answer = host.send("GET", _files(box), params={"path": path})
            expect(b"of the host" not in answer.content, f"{path} was followed out of the sandbox")
            host.send("PUT", _files(box), params={"path": path}, content=b"overwritten")
        host.send("DELETE", _files(box), params={"path": f"/tmp/trap/folder/{mark.name}"})
        host.send("PUT", _files(box, "/tree"), params={"path": "/tmp/trap/folder"}, content=_archive({mark.name: b"x"}))
    expect(mark.read_text() == "of the host", "a file of the host was changed through a link")


def _archive(content: dict[str, bytes]) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        for name, data in content.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return target.getvalue()
