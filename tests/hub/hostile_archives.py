"""Source archives such as no command makes: written block by block, and bombs built from one small piece repeated."""

from __future__ import annotations

import functools
import gzip
import io
import tarfile
import zlib
from collections.abc import Callable

ENTRIES = 1_003_520
BOMB_BYTES = 10 << 30
ZEROS = 64 << 20

Made = Callable[[], bytes]


def entry(
    name: str, data: bytes = b"x", kind: bytes = tarfile.REGTYPE, link: str = "", size: int | None = None
) -> bytes:
    """One entry as it lies in a tar. `size` is what its header says where that is not its own."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    info.size = len(data) if size is None else size
    return info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape") + _padded(data)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


def packed(*parts: bytes, end: bytes = bytes(1024)) -> bytes:
    """A `.tar.gz` of these parts."""
    return gzip.compress(b"".join(parts) + end, 1, mtime=0)


def raw(kind: bytes, data: bytes, name: str = "header") -> bytes:
    """A header of its own (a long name, an extended header) with this content."""
    return entry(name, data, kind)


def pax(**records: str) -> bytes:
    """An extended header of these records; `__` in a keyword stands for a dot."""
    return raw(tarfile.XHDTYPE, b"".join(_record(key.replace("__", "."), value) for key, value in records.items()))


def _record(key: str, value: str) -> bytes:
    body = f" {key}={value}\n".encode()
    length = len(body) + len(str(len(body)))
    length = len(body) + len(str(length))
    return f"{length}".encode() + body


@functools.cache
def zeros() -> bytes:
    """64 MiB of zeros, as a gzip member: any number of them one after another is one stream."""
    return gzip.compress(bytes(ZEROS), 9, mtime=0)


def bomb_of_one() -> bytes:
    """One file of 10 GiB in 10 MB."""
    head = entry("zeros.bin", b"", size=BOMB_BYTES)
    return gzip.compress(entry("README.md") + head, 1) + zeros() * (BOMB_BYTES // ZEROS)


def bomb_of_many() -> bytes:
    """Many files of 64 MiB each, 10 GiB in all."""
    files = (
        gzip.compress(entry(f"zeros-{number:03}.bin", b"", size=ZEROS), 1) for number in range(BOMB_BYTES // ZEROS)
    )
    return b"".join(head + zeros() for head in files) + packed()


def bomb_behind_the_end() -> bytes:
    """10 GiB where the archive has ended."""
    return packed(entry("README.md")) + zeros() * (BOMB_BYTES // ZEROS)


def bomb_of_a_header() -> bytes:
    """A long name of 10 GiB."""
    return gzip.compress(entry("header", b"", tarfile.GNUTYPE_LONGNAME, size=BOMB_BYTES), 1) + zeros() * 160


def a_million(kind: bytes = tarfile.REGTYPE) -> bytes:
    """A million entries: twenty thousand and some with names of their own, and then those again."""
    info = tarfile.TarInfo("0" * 8)
    info.type = kind
    head = bytearray(info.tobuf(tarfile.USTAR_FORMAT))
    blocks = bytearray()
    for number in range(20_480):
        head[0:8] = b"%08d" % number
        head[148:156] = b" " * 8
        head[148:156] = b"%06o\0 " % sum(head)
        blocks += head
    return gzip.compress(blocks, 1) * (ENTRIES // 20_480) + packed()


def many_headers() -> bytes:
    """Five thousand entries of no content, each with an extended header of 7 KB: 35 MB to remember."""
    filler = "x" * 7_000
    return packed(*(pax(path=f"{number:04}.txt", comment=filler) + entry("x", b"") for number in range(5_000)))


def many_globals() -> bytes:
    """Global headers of many short records, which count for every entry that follows."""
    parts = []
    for number in range(200):
        records = b"".join(_record(f"k{number}.{key}", "v") for key in range(500))
        parts.append(raw(tarfile.XGLTYPE, records) + pax(path=f"{number}.txt") + entry("x", b""))
    return packed(*parts)


def sparse_map_without_end() -> bytes:
    """A sparse file (GNU 1.0) whose map is announced as endless and has no line end."""
    head = pax(GNU__sparse__major="1", GNU__sparse__minor="0", GNU__sparse__name="holes", GNU__sparse__realsize="9")
    return packed(head, entry("GNUSparseFile.0/holes", b"9" * (8 << 20)))


def sparse_chain() -> bytes:
    """An old sparse file whose map goes on from block to block: 600 MB of them."""
    info = tarfile.TarInfo("holes")
    info.type = tarfile.GNUTYPE_SPARSE
    head = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    head[482] = 1
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    more = b"00000000001\0" * 42 + b"\1" + bytes(7)
    return gzip.compress(bytes(head), 1) + gzip.compress(more * 20_000, 1) * 60


def links(inside: bool, kind: bytes) -> bytes:
    """A link, to a file of the archive or out of it."""
    return packed(entry("README.md"), entry("link", b"", kind, link="README.md" if inside else "../../etc/passwd"))


def own_tar(data: bytes = b"x") -> bytes:
    """A tar that is not compressed."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        info = tarfile.TarInfo("README.md")
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))
    return target.getvalue()


def cut(data: bytes, left: int) -> bytes:
    """All but the last `left` bytes."""
    return data[:-left]


def wrong_checksum(data: bytes) -> bytes:
    """The same with another CRC at its end."""
    return data[:-8] + zlib.crc32(b"another").to_bytes(4, "little") + data[-4:]


GOOD = (entry("README.md", b"# Good\n"), entry("pyproject.toml", b"[project]\n"))

OUTSIDE = "would lie outside its folder"
DRIVE = "which is a drive on Windows"
LINK = "is a link or a device"
HIDDEN = "characters that cannot be seen"
ONE_NAME = "are one name"

REFUSED: dict[str, tuple[Made, str]] = {
    "up": (lambda: packed(entry("../evil")), OUTSIDE),
    "up and up": (lambda: packed(entry("a/../../evil")), OUTSIDE),
    "up in an extended header": (lambda: packed(pax(path="../evil"), entry("good")), OUTSIDE),
    "up in a long name": (
        lambda: packed(raw(tarfile.GNUTYPE_LONGNAME, b"../" * 50 + b"evil\0"), entry("good")),
        OUTSIDE,
    ),
    "a folder that is up": (lambda: packed(entry("../evil", b"", tarfile.DIRTYPE)), OUTSIDE),
    "absolute": (lambda: packed(entry("/tmp/evil")), OUTSIDE),
    "absolute in an extended header": (lambda: packed(pax(path="/tmp/evil"), entry("good")), OUTSIDE),
    "backslashes": (lambda: packed(entry("..\\evil")), OUTSIDE),
    "a drive": (lambda: packed(entry("C:/evil")), DRIVE),
    "a drive below": (lambda: packed(entry("a/C:evil")), DRIVE),
    "symbolic link inside": (lambda: links(True, tarfile.SYMTYPE), LINK),
    "symbolic link outside": (lambda: links(False, tarfile.SYMTYPE), LINK),
    "hard link inside": (lambda: links(True, tarfile.LNKTYPE), LINK),
    "hard link outside": (lambda: links(False, tarfile.LNKTYPE), LINK),
    "character device": (lambda: packed(entry("dev", b"", tarfile.CHRTYPE)), LINK),
    "block device": (lambda: packed(entry("dev", b"", tarfile.BLKTYPE)), LINK),
    "fifo": (lambda: packed(entry("pipe", b"", tarfile.FIFOTYPE)), LINK),
    "a kind that nobody knows": (lambda: packed(entry("what", b"x", b"Q")), LINK),
    "twice": (lambda: packed(entry("a"), entry("b"), entry("a", b"y")), "is there twice"),
    "twice, by capitals": (lambda: packed(entry("README.md"), entry("Readme.md")), ONE_NAME),
    "twice, by composition": (lambda: packed(entry("caf\u00e9.txt"), entry("cafe\u0301.txt")), ONE_NAME),
    "twice, by a ligature": (lambda: packed(entry("stra\u00dfe"), entry("strasse")), ONE_NAME),
    "folders, by capitals": (lambda: packed(entry("Foo/a"), entry("foo/b")), ONE_NAME),
    "empty folders, by capitals": (
        lambda: packed(entry("Foo", b"", tarfile.DIRTYPE), entry("foo", b"", tarfile.DIRTYPE)),
        ONE_NAME,
    ),
    "twice, by a joiner": (lambda: packed(entry("\u06cc\u200c\u0647"), entry("\u06cc\u0647")), ONE_NAME),
    "file, then folder": (lambda: packed(entry("a"), entry("a/b")), "is a file and a folder at once"),
    "folder, then file": (lambda: packed(entry("a/b"), entry("a")), "is a file and a folder at once"),
    "file, then folder by capitals": (lambda: packed(entry("a"), entry("A/b")), "is a file and a folder at once"),
    "empty folder, then file": (
        lambda: packed(entry("a", b"", tarfile.DIRTYPE), entry("a")),
        "is a file and a folder at once",
    ),
    "sparse, old": (sparse_chain, "is a sparse file"),
    "sparse, new": (sparse_map_without_end, "is a sparse file"),
    "sparse, in between": (
        lambda: packed(pax(GNU__sparse__map="0,1", GNU__sparse__size="9"), entry("holes")),
        "is a sparse file",
    ),
    "a header of 70 KB": (lambda: packed(raw(tarfile.GNUTYPE_LONGNAME, b"n" * 70_000), entry("x")), "too large"),
    "an extended header of 8 MB": (lambda: packed(pax(comment="c" * (8 << 20)), entry("x")), "too large"),
    "a header of 10 GB": (bomb_of_a_header, "too large"),
    "many headers": (many_headers, "more headers than an archive needs"),
    "many global headers": (many_globals, "more headers than an archive needs"),
    "headers of headers": (lambda: packed(pax(comment="c") * 5_000, entry("x")), "more headers"),
    "long names of long names": (
        lambda: packed(raw(tarfile.GNUTYPE_LONGNAME, b"n\0") * 5_000, entry("x")),
        "more headers than an archive needs",
    ),
    "a size below zero": (lambda: packed(entry("a", b"", size=-512), entry("b")), "a size below zero"),
    "a size below zero in an extended header": (
        lambda: packed(pax(size="-512"), entry("a"), entry("b")),
        "a size below zero",
    ),
    "more announced than there": (lambda: packed(entry("a", b"x", size=1 << 20), end=b""), "not a complete"),
    "ten gigabytes in one": (bomb_of_one, "unpacks to more than"),
    "ten gigabytes in many": (bomb_of_many, "unpacks to more than"),
    "ten gigabytes behind the end": (bomb_behind_the_end, "unpacks to more than"),
    "a million files": (a_million, "more than 20000 entries"),
    "a million folders": (lambda: a_million(tarfile.DIRTYPE), "more than 20000 entries"),
    "truncated": (lambda: cut(packed(*GOOD), 12), "not a complete"),
    "another checksum": (lambda: wrong_checksum(packed(*GOOD)), "not a complete"),
    "garbage behind it": (lambda: packed(*GOOD) + b"garbage" * 100, "not a complete"),
    "not compressed": (own_tar, "not a complete"),
    "no archive": (lambda: b"PK\3\4" + bytes(1000), "not a complete"),
    "compressed nothing": (lambda: gzip.compress(b"not a tar, whatever it says" * 100), "not a complete"),
    "a name that is not UTF-8": (lambda: packed(entry("a\udcff\udcfe")), "is not text"),
    "a line end in a name": (lambda: packed(entry("a\nb")), HIDDEN),
    "a terminal's escape": (lambda: packed(entry("a\x1b[2Jb")), HIDDEN),
    "a control character of the upper half": (lambda: packed(entry("a\x9bb")), HIDDEN),
    "text that runs backwards": (lambda: packed(entry("\u202egnp.exe")), HIDDEN),
    "a space of no width": (lambda: packed(entry("READ\u200bME.md")), HIDDEN),
    "a mark of no width": (lambda: packed(entry("\ufeffREADME.md")), HIDDEN),
    "a joiner that joins nothing": (lambda: packed(entry("READ\u200dME.md")), HIDDEN),
    "nothing but a joiner": (lambda: packed(entry("\u200c")), HIDDEN),
    "a line separator": (lambda: packed(entry("a\u2028b")), HIDDEN),
    "two thousand folders deep": (lambda: packed(pax(path="a/" * 1_900 + "b"), entry("x")), "deeper than"),
    "a long part": (lambda: packed(pax(path="a" * 300), entry("x")), "longer than"),
    "a long path": (lambda: packed(pax(path="/".join(["a" * 200] * 20)), entry("x")), "longer than"),
    "no name": (lambda: packed(entry("")), "is not a plain path"),
    "a dot": (lambda: packed(entry(".")), "is not a plain path"),
    "dots and slashes": (lambda: packed(entry("a/./b")), "is not a plain path"),
}
