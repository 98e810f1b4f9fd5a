"""Whether a wheel is what it says: one dist-info folder for its name and version, a RECORD of exactly its files, and no two
files that are one when they are installed.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import zipfile
from pathlib import Path
from typing import NoReturn

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from prime_core.entries import BadName, Entries, shown
from prime_core.errors import PackagingError
from prime_core.unzipping import open_wheel
from prime_core.wheel import dist_info, parse_metadata, read_metadata_file

MAX_RECORD_BYTES = 8 << 20
CHUNK_BYTES = 1 << 20
# What a signer may add, which RECORD does not name (binary distribution format).
_UNNAMED = ("RECORD", "RECORD.jws", "RECORD.p7s")
_HASHES = frozenset({"sha256", "sha384", "sha512"})


def check_wheel(path: Path, filename: str) -> tuple[dict[str, object], bytes]:
    """Read all of a wheel that is to be called `filename`: what its METADATA says (`wheel_metadata`), and METADATA itself.

    Raises PackagingError with the reason a wheel is refused.
    """
    with open_wheel(path, filename) as archive:
        content = read_metadata_file(archive, filename)
        told = parse_metadata(content, filename)
        _check_told(told, filename)
        folder = dist_info(archive, filename)
        _check_folders(archive, folder, told, filename)
        for needed in ("WHEEL", "RECORD"):
            if f"{folder}/{needed}" not in archive.NameToInfo:
                _refuse(filename, f"there is no {needed} in {folder}")
        _check_installed(archive, filename)
        _check_files(archive, folder, filename)
    return told, content


def _refuse(filename: str, why: str) -> NoReturn:
    raise PackagingError(f"{shown(filename)} is not used: {why}.")


def _check_told(told: dict[str, object], filename: str) -> None:
    for line in told["requires_dist"] if isinstance(told["requires_dist"], list) else ():
        try:
            Requirement(line)
        except InvalidRequirement:
            _refuse(filename, f"it requires '{shown(line)}', which is not a requirement (PEP 508)")
    try:
        SpecifierSet(str(told["requires_python"] or ""))
    except InvalidSpecifier:
        _refuse(filename, f"its Requires-Python '{shown(str(told['requires_python']))}' says no versions of Python")


def _check_folders(archive: zipfile.ZipFile, folder: str, told: dict[str, object], filename: str) -> None:
    """That the .dist-info folder, and each .data folder, is called after the package and its version."""
    first = {name.partition("/")[0] for name in archive.namelist() if "/" in name}
    package, version = str(told["name"]), Version(str(told["version"]))
    # setuptools puts a wheel's build number into the name of its .data folder.
    words = filename.split("-")
    build = f"-{words[2]}" if len(words) == 6 else None
    for kind, found in (
        (".dist-info", {folder}),
        (".data", {name for name in first if name.lower().endswith(".data")}),
    ):
        for name in sorted(found):
            stem = name[: -len(kind)]
            plain = stem.removesuffix(build) if build and kind == ".data" else stem
            if not (_is_of(stem, package, version) or _is_of(plain, package, version)):
                _refuse(filename, f"its {kind} folder '{shown(name)}' is of another package or version")


def _is_of(stem: str, name: str, version: Version) -> bool:
    """Whether `stem` is NAME-VERSION; some build backends leave a hyphen in the name."""
    parts = stem.split("-") if stem.isascii() else []
    for at in range(1, len(parts)):
        try:
            same = Version("-".join(parts[at:])) == version
        except InvalidVersion:
            continue
        if same and canonicalize_name("-".join(parts[:at])) == canonicalize_name(name):
            return True
    return False


def _check_installed(archive: zipfile.ZipFile, filename: str) -> None:
    """That no two entries become one file where .data/purelib and .data/platlib lie beside all else."""
    entries = Entries()
    for member in archive.infolist():
        place = member.filename
        first, _, rest = place.partition("/")
        if first.lower().endswith(".data"):
            scheme, _, place = rest.partition("/")
            if scheme.lower() not in ("purelib", "platlib") or not place:
                continue
            if place.partition("/")[0].lower().endswith(".dist-info"):
                _refuse(
                    filename, f"its entry '{shown(member.filename)}' would be installed as a second .dist-info folder"
                )
        try:
            entries.add(place, member.is_dir())
        except BadName as error:
            _refuse(filename, f"once it is installed, its entry '{shown(place)}' {error}")


def _check_files(archive: zipfile.ZipFile, folder: str, filename: str) -> None:
    listed = _listed(archive, folder, filename)
    for member in archive.infolist():
        name = member.filename
        if member.is_dir():
            continue
        if name.startswith(f"{folder}/") and name.partition("/")[2] in _UNNAMED:
            listed.pop(name, None)
            continue
        if name not in listed:
            _refuse(filename, f"its RECORD does not name '{shown(name)}', which is in it")
        if not _same(archive, member, *listed.pop(name)):
            _refuse(filename, f"its RECORD says something else of '{shown(name)}' than what is in it")
    for name in listed:
        _refuse(filename, f"its RECORD names '{shown(name)}', which is not in it")


def _listed(archive: zipfile.ZipFile, folder: str, filename: str) -> dict[str, tuple[str, str]]:
    """path → (hash, size), as RECORD has them; either may be empty."""
    member = archive.getinfo(f"{folder}/RECORD")
    if member.file_size > MAX_RECORD_BYTES:
        _refuse(filename, f"its RECORD is larger than {MAX_RECORD_BYTES} bytes")
    listed: dict[str, tuple[str, str]] = {}
    try:
        for row in csv.reader(archive.read(member).decode().splitlines()):
            if not row:
                continue
            name, said, size = row
            if name in listed:
                _refuse(filename, f"its RECORD names '{shown(name)}' twice")
            listed[name] = (said, size)
    except (ValueError, csv.Error):
        _refuse(filename, "its RECORD is not a table of files, hashes and sizes")
    return listed


def _same(archive: zipfile.ZipFile, member: zipfile.ZipInfo, said: str, size: str) -> bool:
    """Reads the whole file, so that its checksum is compared, too."""
    algorithm, _, value = said.partition("=")
    digest = hashlib.new(algorithm) if algorithm in _HASHES else None
    if said and digest is None:
        return False
    with archive.open(member) as content:
        while chunk := content.read(CHUNK_BYTES):
            if digest is not None:
                digest.update(chunk)
    found = {""}
    if digest is not None:
        # Early versions of uv_build wrote hashes in hex.
        found = {base64.urlsafe_b64encode(digest.digest()).rstrip(b"=").decode(), digest.hexdigest()}
    return value.rstrip("=") in found and size in ("", str(member.file_size))
