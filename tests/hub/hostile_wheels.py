"""Wheels such as no build makes: members with any name, mode and method, and directories that lie."""

from __future__ import annotations

import base64
import hashlib
import io
import struct
import zipfile
import zlib
from collections.abc import Callable

from tests.hub.zip_parts import built, deflated, directory, end, local, zeros

NAME = "tricky"
MODULE, INFO = f"{NAME}.py", f"{NAME}-0.1.0.dist-info"
METADATA = f"Metadata-Version: 2.1\nName: {NAME}\nVersion: 0.1.0\n"
WHEEL = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
DATE = (2024, 1, 1, 0, 0, 0)
GIB = 1 << 30

Made = Callable[[], bytes]
Files = dict[str, bytes]


def content(files: Files | None = None, metadata: str | bytes = METADATA, name: str = NAME) -> Files:
    """The files of a wheel, without RECORD."""
    told = metadata.encode() if isinstance(metadata, str) else metadata
    module, folder = name.replace("-", "_"), info(name)
    told = told.replace(f"Name: {NAME}\n".encode(), f"Name: {name}\n".encode())
    own = {f"{module}.py": b"VERSION = 1\n", f"{folder}/METADATA": told, f"{folder}/WHEEL": WHEEL.encode()}
    return {**own, **(files or {})}


def info(name: str) -> str:
    """The dist-info folder of a wheel of this name."""
    return f"{name.replace('-', '_')}-0.1.0.dist-info"


def record(files: Files, folder: str = INFO) -> bytes:
    """RECORD of these files, with hashes and sizes."""
    lines = [f'"{name}",sha256={digest(data)},{len(data)}\n' for name, data in files.items()]
    return ("".join(lines) + f"{folder}/RECORD,,\n").encode("utf-8", "surrogateescape")


def digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def zipped(
    files: Files,
    *more: tuple[zipfile.ZipInfo, bytes],
    recorded: bytes | None = None,
    method: int = zipfile.ZIP_DEFLATED,
    name: str = NAME,
) -> bytes:
    """A zip of these files, a RECORD, and further members that are named in it."""
    listed = {**files, **{entry.filename: data for entry, data in more if not entry.is_dir()}}
    place = f"{info(name)}/RECORD"
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", method) as archive:
        for path, data in files.items():
            _add(archive, zipfile.ZipInfo(path, DATE), data, method)
        for entry, data in more:
            _add(archive, entry, data, method)
        lines = record(listed, info(name)) if recorded is None else recorded
        _add(archive, zipfile.ZipInfo(place, DATE), lines, method)
    return target.getvalue()


def _add(archive: zipfile.ZipFile, info: zipfile.ZipInfo, data: bytes, method: int) -> None:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a name that is given twice
        archive.writestr(info, data, method)


def member(name: str, data: bytes = b"x", mode: int = 0o100644) -> tuple[zipfile.ZipInfo, bytes]:
    info = zipfile.ZipInfo(name, DATE)
    info.external_attr = mode << 16
    return info, data


def named(name: str) -> Made:
    """A wheel with a file of this name beside its own."""
    return lambda: zipped(content(), member(name))


def of_mode(mode: int, data: bytes = b"README.md") -> Made:
    """A wheel with an entry of that file type."""
    return lambda: zipped(content(), member("other", data, mode))


def told(more: str = "", **changes: str) -> Made:
    """A wheel whose METADATA says this."""
    fields = {"Metadata-Version": "2.1", "Name": NAME, "Version": "0.1.0", **changes}
    text = "".join(f"{key}: {value}\n" for key, value in fields.items()) + more
    return lambda: zipped(content(metadata=text))


def recorded(change: Callable[[Files], bytes]) -> Made:
    """A wheel with this RECORD."""
    return lambda: zipped(content(), recorded=change(content()))


def patched(old: bytes, new: bytes, wheel: Made = lambda: zipped(content())) -> Made:
    """A wheel in which bytes of the same number are others, everywhere."""

    def make() -> bytes:
        data = wheel()
        assert old in data and len(old) == len(new)
        return data.replace(old, new)

    return make


def without(name: str) -> Made:
    """A wheel that lacks one of its files."""
    return lambda: zipped({key: data for key, data in content().items() if key != name})


def without_record() -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name, data in content().items():
            archive.writestr(name, data)
    return target.getvalue()


def flagged(flag: int) -> bytes:
    """A wheel with this bit of the general flags set for every member, here and in the directory."""
    data = bytearray(zipped(content()))
    for mark, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        at = data.find(mark)
        while at >= 0:
            data[at + offset] |= flag
            at = data.find(mark, at + 4)
    return bytes(data)


def honest(extra: dict[str, tuple[bytes, int]]) -> list[tuple[str, bytes, int, int]]:
    """The members of a wheel, and these: name → (packed bytes, size that is said)."""
    files = content()
    listing = record(files).decode() + "".join(f"{name},,\n" for name in extra)
    files[f"{INFO}/RECORD"] = listing.encode()
    own = [(name, deflated(data), len(data), zlib.crc32(data)) for name, data in files.items()]
    return [*own, *((name, packed, size, 0) for name, (packed, size) in extra.items())]


def bomb_honest() -> bytes:
    """10 GiB of zeros in 10 MB: three files that say how large they are."""
    third = zeros(53)
    return built(honest({f"zeros-{number}.bin": (third, 53 * (64 << 20)) for number in range(3)}))


def bomb_lying() -> bytes:
    """10 GiB of zeros in 10 MB, of which the directory says that it is a kilobyte."""
    return built(honest({"zeros.bin": (zeros(160), 1024)}))


def bomb_in_metadata() -> bytes:
    """METADATA of 100 MB."""
    return zipped(content(metadata=METADATA.encode() + b"\n" + bytes(100 << 20)))


def bomb_in_record() -> bytes:
    """RECORD of 100 MB."""
    return zipped(content(), recorded=record(content()) + b"," * (100 << 20))


def overlapping() -> bytes:
    """Five hundred files which are all the same bytes."""
    data = deflated(bytes(1 << 20))
    crc = zlib.crc32(bytes(1 << 20))
    members = honest({})
    body, records = b"", b""
    for name, packed, size, checksum in members:
        records += directory(name.encode(), size, len(packed), checksum, len(body))
        body += local(name.encode(), size, len(packed), checksum) + packed
    at = len(body)
    body += local(b"same000.bin", 1 << 20, len(data), crc) + data
    for number in range(500):
        records += directory(b"same%03d.bin" % number, 1 << 20, len(data), crc, at)
    return body + records + end(len(members) + 500, len(records), len(body))


def a_million() -> bytes:
    """A directory of a million entries."""
    one = zipped(content())
    at = one.rfind(b"PK\5\6")
    size, start = struct.unpack("<2L", one[at + 12 : at + 20])
    more = directory(b"same.bin", 0, 0, 0, 0) * 1_000_000
    return one[:at] + more + end(0xFFFF, size + len(more), start)


def fewer_said() -> bytes:
    """A directory that holds more than the record at the end says."""
    one = bytearray(zipped(content()))
    at = one.rfind(b"PK\5\6")
    one[at + 8 : at + 12] = struct.pack("<2H", 1, 1)
    return bytes(one)


def huge_form() -> bytes:
    """A wheel with the records of the form for huge files, which say something else."""
    one = zipped(content())
    at = one.rfind(b"PK\5\6")
    size, start = struct.unpack("<2L", one[at + 12 : at + 20])
    more = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, 4, 4, size, start)
    return one[:at] + more + struct.pack("<4sLQL", b"PK\6\7", 0, at, 1) + one[at:]


def with_extra(kind: int, data: bytes) -> bytes:
    """A wheel with an extra field."""
    info, text = member("plain.py")
    info.extra = struct.pack("<2H", kind, len(data)) + data
    return zipped(content(), (info, text))


def another_local_name() -> bytes:
    """A file that has another name before its bytes than in the directory."""
    one = bytearray(zipped(content(), member("inside.py")))
    at = one.find(b"inside.py")
    one[at : at + 9] = b"outlaw.py"
    return bytes(one)


def hidden_between() -> bytes:
    """A second member of a name, which only those see who read from the front."""
    data = deflated(b"evil = 1\n")
    hidden = local(MODULE.encode(), 9, len(data), zlib.crc32(b"evil = 1\n")) + data
    one = zipped(content())
    at = one.rfind(b"PK\5\6")
    count, size, start = struct.unpack("<H2L", one[at + 10 : at + 20])
    return one[:start] + hidden + one[start:at] + end(count, size, start + len(hidden))


def with_comment() -> bytes:
    """A wheel with a comment at its end."""
    one = zipped(content())
    return one[:-2] + struct.pack("<H", 40) + b"PK\5\6" + bytes(36)


def nested_mail() -> str:
    """METADATA that is a message in a message in a message …"""
    return METADATA + "Content-Type: message/rfc822\n\n" * 3_000


DATA = f"{NAME}-0.1.0.data"


class _Pipe(io.RawIOBase):
    """A target in which nobody can go back."""

    def __init__(self) -> None:
        self.data = b""

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        self.data += bytes(data)  # ty: ignore[invalid-argument-type]
        return len(bytes(data))  # ty: ignore[invalid-argument-type]


def piped(large: bool = False) -> bytes:
    """A good wheel whose lengths stand behind its bytes."""
    files = content()
    files[f"{INFO}/RECORD"] = record(files)
    target = _Pipe()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            with archive.open(zipfile.ZipInfo(name, DATE), "w", force_zip64=large) as into:
                into.write(data)
    return target.data


def in_folder(folder: str) -> Made:
    """A wheel whose dist-info folder is called like this."""
    files = {name.replace(INFO, folder): data for name, data in content().items()}
    members = {**files, f"{folder}/RECORD": record(files, folder)}
    return lambda: built([(name, deflated(data), len(data), zlib.crc32(data)) for name, data in members.items()])


def behind_changed() -> bytes:
    """A wheel whose lengths behind the bytes are others than in its directory."""
    one = bytearray(piped())
    one[one.find(b"PK\7\x08") + 12] ^= 1
    return bytes(one)


def changed_header(offset: int) -> bytes:
    """A wheel whose first entry has another byte in its own header than in its directory."""
    one = bytearray(zipped(content()))
    one[offset] ^= 1
    return bytes(one)


def with_local_extra() -> bytes:
    """A wheel whose first entry has another name in a field before its bytes, which its directory lacks."""
    name, data = MODULE.encode(), b"VERSION = 1\n"
    field = struct.pack("<2HBL", 0x7075, 5 + 9, 1, zlib.crc32(name)) + b"outlaw.py"
    return _first_as(lambda head: head[:28] + struct.pack("<H", len(field)) + head[30:] + field, deflated(data), data)


def stream_that_ends_early() -> bytes:
    """A wheel whose first entry, its lengths behind it, holds a whole entry more behind the end of its stream."""
    data, evil = b"VERSION = 1\n", b"evil = 1\n"
    early = deflated(data)
    early += b"PK\7\x08" + struct.pack("<3L", zlib.crc32(data), len(early), len(data))
    early += local(b"hidden.py", len(evil), len(deflated(evil)), zlib.crc32(evil)) + deflated(evil)
    behind = b"PK\7\x08" + struct.pack("<3L", zlib.crc32(data), len(early), len(data))
    late = struct.pack("<H", 0x808)
    one = _first_as(lambda head: head[:6] + late + head[8:14] + bytes(12) + head[26:], early, data, behind)
    at = one.find(b"PK\1\2")
    return one[: at + 8] + late + one[at + 10 :]


def longer_stream() -> bytes:
    """A wheel whose first entry unpacks to more than it says."""
    data = b"VERSION = 1\n"
    return _first_as(lambda head: head, deflated(data + b"evil = 1\n"), data)


def _first_as(change: Callable[[bytes], bytes], packed: bytes, data: bytes, behind: bytes = b"") -> bytes:
    """A wheel whose module is packed like this, and has its own header changed."""
    members = [one for one in honest({}) if one[0] != MODULE]
    name, crc = MODULE.encode(), zlib.crc32(data)
    body = change(local(name, len(data), len(packed), crc)) + packed + behind
    records = directory(name, len(data), len(packed), crc, 0)
    for path, more, size, checksum in members:
        records += directory(path.encode(), size, len(more), checksum, len(body))
        body += local(path.encode(), size, len(more), checksum) + more
    return body + records + end(len(members) + 1, len(records), len(body))


def _listed(change: Callable[[list[str]], list[str]]) -> Made:
    return recorded(lambda files: "".join(change(record(files).decode().splitlines(True))).encode())


REFUSED: dict[str, tuple[Made, str]] = {
    "up": (named("../evil.py"), "would lie outside its folder"),
    "up and up": (named("tricky/../../evil.py"), "would lie outside its folder"),
    "absolute": (named("/tmp/evil.py"), "would lie outside its folder"),
    "backslashes": (named("..\\evil.py"), "would lie outside its folder"),
    "a drive": (named("C:/evil.py"), "which is a drive on Windows"),
    "up by scheme": (named("tricky-0.1.0.data/data/../../evil.py"), "would lie outside its folder"),
    "symbolic link": (of_mode(0o120777), "is a link or a device"),
    "symbolic link outside": (of_mode(0o120777, b"../../etc/passwd"), "is a link or a device"),
    "fifo": (of_mode(0o010644), "is a link or a device"),
    "device": (of_mode(0o020644), "is a link or a device"),
    "a file that says it is a folder": (of_mode(0o040755), "is a link or a device"),
    "twice": (lambda: zipped(content(), member(MODULE, b"evil = 1\n")), "is there twice"),
    "twice, by capitals": (named("Tricky.py"), "are one name"),
    "twice, by composition": (
        lambda: zipped(content({"caf\u00e9.txt": b"a"}), member("cafe\u0301.txt")),
        "are one name",
    ),
    "file and folder": (named("tricky.py/x.py"), "is a file and a folder at once"),
    "empty folder and file": (
        lambda: zipped(content(), member("a/", b"", 0o040755), member("a")),
        "is a file and a folder at once",
    ),
    "encrypted": (lambda: flagged(0x01), "is encrypted"),
    "strongly encrypted": (lambda: flagged(0x41), "is encrypted"),
    "packed by bzip2": (lambda: zipped(content(), method=zipfile.ZIP_BZIP2), "packed in a way"),
    "packed by lzma": (lambda: zipped(content(), method=zipfile.ZIP_LZMA), "packed in a way"),
    "bytes before it": (lambda: b"#!/bin/sh\n" + zipped(content()), "is not one piece"),
    "bytes behind it": (lambda: zipped(content()) + b"garbage" * 10, "is not one piece"),
    "a comment": (with_comment, "is not one piece"),
    "a file between": (hidden_between, "is not one piece"),
    "overlapping": (overlapping, "is not one piece"),
    "the form for huge files": (huge_form, "is not one piece"),
    "fewer entries said": (fewer_said, "says how many there are"),
    "a million entries": (a_million, "more than 20000 entries"),
    "ten gigabytes": (bomb_honest, "unpacks to more than"),
    "ten gigabytes that lie": (bomb_lying, "damaged"),
    "METADATA of 100 MB": (bomb_in_metadata, "METADATA is larger than"),
    "RECORD of 100 MB": (bomb_in_record, "RECORD is larger than"),
    "another name before the bytes": (another_local_name, "damaged"),
    "another name in a field": (lambda: with_extra(0x7075, b"\1" + bytes(4) + b"../evil.py"), "name in an extra field"),
    "a byte that is another": (patched(b"tricky.py", b"trucky.py", lambda: zipped(content())), "RECORD"),
    "truncated": (lambda: zipped(content())[:-30], "is not one piece"),
    "its middle missing": (lambda: zipped(content())[:40] + zipped(content())[80:], "is not one piece"),
    "no zip": (lambda: b"\x1f\x8b" + bytes(500), "is not one piece"),
    "a name that is not UTF-8": (patched(b"caf\xc3\xa9", b"caf\xff\xfe", named("caf\u00e9")), "is damaged"),
    "a name of an old alphabet": (
        patched(b"caf\xc3\xa9", b"caf\xc3\xa9", lambda: patched_flags(named("caf\u00e9")())),
        "is not text",
    ),
    "a zero in a name": (patched(b"plain-x", b"plain\0x", named("plain-x")), "characters that cannot be seen"),
    "text that runs backwards": (named("\u202eyp.exe"), "characters that cannot be seen"),
    "a space of no width": (named("tricky\u200b.py"), "characters that cannot be seen"),
    "a terminal's escape": (named("a\x1b[2J.py"), "characters that cannot be seen"),
    "another environment inside": (told(Name="somebody-else"), "somebody-else 0.1.0"),
    "another version inside": (told(Version="9.9"), "tricky 9.9"),
    "a name of a look-alike": (told(Name="tric\u212ay"), "it is not used"),
    "a name said twice": (lambda: zipped(content(metadata=METADATA + "Name: other\n")), "says its name 2 times"),
    "a requirement that is none": (told("Requires-Dist: not a requirement ===\n"), "which is not a requirement"),
    "a Python that is none": (told(**{"Requires-Python": "three"}), "Requires-Python"),
    "two dist-info folders": (
        lambda: zipped(content({"other-1.0.dist-info/METADATA": b"Name: other\nVersion: 1.0\n"})),
        "one .dist-info folder",
    ),
    "the folder of another": (
        in_folder("othery-0.1.0.dist-info"),
        "is of another package or version",
    ),
    "the folder of another version": (
        in_folder("tricky-9.9.dist-info"),
        "is of another package or version",
    ),
    "a data folder of another": (named("othery-0.1.0.data/purelib/x.py"), "is of another package or version"),
    "a data folder of another version": (named("tricky-0.1.1.data/scripts/x"), "is of another package or version"),
    "a data folder of none": (named("weights.data/x.bin"), "is of another package or version"),
    "twice, when installed": (
        named(f"{DATA}/purelib/tricky.py"),
        "once it is installed, its entry 'tricky.py' is there",
    ),
    "twice, when installed, by capitals": (named(f"{DATA}/platlib/Tricky.py"), "once it is installed"),
    "file and folder, when installed": (named(f"{DATA}/purelib/tricky.py/x.py"), "is a file and a folder at once"),
    "a dist-info folder of another, when installed": (
        named(f"{DATA}/purelib/other-1.0.dist-info/METADATA"),
        "as a second .dist-info folder",
    ),
    "folders that are one": (
        lambda: zipped(content(), member("Foo/a.py"), member("foo/b.py")),
        "lies in 'foo', which and 'Foo' are one name",
    ),
    "a stream that ends early": (stream_that_ends_early, "does not end where the entry does"),
    "a stream that is longer": (longer_stream, "its bytes are others"),
    "another name in a field before the bytes": (with_local_extra, "name in an extra field"),
    "other flags before the bytes": (lambda: changed_header(7), "is damaged"),
    "another checksum before the bytes": (lambda: changed_header(14), "is damaged"),
    "other lengths behind the bytes": (behind_changed, "what stands behind its bytes"),
    "no METADATA": (without(f"{INFO}/METADATA"), "no METADATA"),
    "no WHEEL": (without(f"{INFO}/WHEEL"), "no WHEEL"),
    "no RECORD": (without_record, "no RECORD"),
    "a RECORD that lacks a file": (_listed(lambda lines: lines[1:]), "RECORD does not name 'tricky.py'"),
    "a RECORD that names another file": (_listed(lambda lines: [*lines, "gone.py,,\n"]), "RECORD names 'gone.py'"),
    "a RECORD that names one outside": (_listed(lambda lines: [*lines, "../gone.py,,\n"]), "RECORD names '../gone.py'"),
    "a RECORD that names one twice": (_listed(lambda lines: [*lines, lines[0]]), "RECORD names 'tricky.py' twice"),
    "a RECORD of another hash": (
        recorded(lambda files: record({**files, MODULE: b"VERSION = 2\n"})),
        "RECORD says something else of 'tricky.py'",
    ),
    "a RECORD of another size": (
        _listed(lambda lines: [lines[0].replace(",12\n", ",13\n"), *lines[1:]]),
        "RECORD says something else of 'tricky.py'",
    ),
    "a RECORD of a weak hash": (
        _listed(lambda lines: [f"tricky.py,md5={'A' * 22},12\n", *lines[1:]]),
        "RECORD says something else of 'tricky.py'",
    ),
    "a RECORD that is no table": (recorded(lambda _: b'"' + b"\xff" * 200_000), "RECORD"),
}


def patched_flags(data: bytes) -> bytes:
    """Without the bit that says that names are UTF-8."""
    out = bytearray(data)
    for mark, offset in ((b"PK\3\4", 7), (b"PK\1\2", 9)):
        at = out.find(mark)
        while at >= 0:
            out[at + offset] &= ~0x08
            at = out.find(mark, at + 4)
    return bytes(out)


FILENAMES = [
    "tricky-0.1.0-py3-none-any/../../../../../../tmp/evil.whl",
    "tricky-0.1.0-py3-none-../evil.whl",
    "tricky-0.1.0-py3-none-any\\evil.whl",
    "tric\u212ay-0.1.0-py3-none-any.whl",
    "tricky- 0.1.0-py3-none-any.whl",
    "tricky-0.1.0\n-py3-none-any.whl",
    "tricky-0.1.0-py3-none-any\0.whl",
    "tricky-0.1.0-py3-none-\u202eyna.whl",
    "tricky-0.1.0-py3-none-.whl",
    "tricky-0.1.0-py3--any.whl",
    "tricky-0.1.0-p y3-none-any.whl",
    "tricky-0.1.0-build-py3-none-any.whl",
    "tricky-0.1.0.whl",
    "tricky-0.1.0-py3-none-any.zip",
    "",
]
