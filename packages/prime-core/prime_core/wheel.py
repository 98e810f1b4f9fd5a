"""Building an environment's wheel, and reading what a wheel says about itself."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from email.parser import BytesHeaderParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prime_core.children import child_environment
from prime_core.entries import shown
from prime_core.errors import PackagingError
from prime_core.files import write_atomic
from prime_core.metadata import read_metadata
from prime_core.staging import stage
from prime_core.unzipping import open_wheel
from prime_core.uv import run_uv, uv_environment

if TYPE_CHECKING:
    from packaging.version import Version

# 2020-01-01, for files whose times would change a wheel's bytes though nothing changed.
SOURCE_DATE_EPOCH = "1577836800"
BUILD_SECONDS = 600.0
MAX_METADATA_BYTES = 4 << 20


@dataclass(frozen=True)
class WheelFile:
    """A wheel on disk: its sha256 (hex), its size in bytes, and its METADATA as `wheel_metadata` gives it.

    `import_root` is the source folder that an editable install puts on the path, None when there is none.
    """

    path: Path
    sha256: str
    size: int
    metadata: dict[str, Any] = field(default_factory=dict)
    import_root: Path | None = None


def sha256_of(path: Path) -> str:
    """SHA-256 (hex) of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def describe_wheel(path: Path, import_root: Path | None = None) -> WheelFile:
    """A WheelFile for a wheel that exists. Raises PackagingError when it is not one."""
    return WheelFile(path, sha256_of(path), path.stat().st_size, wheel_metadata(path), import_root)


def build_wheel(env_dir: Path, out_dir: Path) -> WheelFile:
    """Build the environment's wheel into `out_dir`; the same files give the same bytes. Raises PackagingError.

    hatchling builds here and now, without a network; another build backend is fetched by uv into a build of its own.
    """
    env_dir = env_dir.absolute()
    metadata = read_metadata(env_dir)
    with tempfile.TemporaryDirectory(prefix="prime-build-") as scratch:
        try:
            staging = stage(env_dir, metadata, Path(scratch) / metadata.module_name)
        except OSError as error:
            raise PackagingError(f"The environment at {env_dir} cannot be copied: {error.strerror or error}.") from None
        built = Path(scratch) / "dist"
        environment = {**child_environment(), "SOURCE_DATE_EPOCH": SOURCE_DATE_EPOCH}
        if staging.hatchling:
            command = [sys.executable, "-P", "-m", "hatchling", "build", "-t", "wheel", "-d", str(built)]
            done = _run(command, staging.root, environment)
        else:
            arguments = ["build", "--quiet", "--wheel", "--python", sys.executable, "--out-dir", str(built)]
            environment = uv_environment(environment)
            done = run_uv([*arguments, str(staging.root)], env=environment, timeout=BUILD_SECONDS)
        wheels = sorted(built.glob("*.whl"))
        if done.returncode or len(wheels) != 1:
            raise PackagingError(
                f"The wheel of '{metadata.name}' could not be built: {_last_lines(done.stderr or done.stdout)}",
                "Correct pyproject.toml; 'uv build --wheel' in the folder shows more.",
            )
        out_dir.mkdir(parents=True, exist_ok=True)
        target = out_dir / wheels[0].name
        shutil.copyfile(wheels[0], target)
    return describe_wheel(target, staging.import_root)


def _run(command: list[str], cwd: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command,
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=BUILD_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise PackagingError(f"The wheel was not built within {BUILD_SECONDS:g} seconds.") from None


def _last_lines(text: str) -> str:
    lines = [line.strip() for line in re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines() if line.strip()]
    return " ".join(lines[-3:])[-600:] or "the build backend said nothing."


def dist_info(archive: zipfile.ZipFile, filename: str) -> str:
    """The dist-info folder of a wheel that is called `filename`. Raises PackagingError when it has not exactly one."""
    folders = {name.partition("/")[0] for name in archive.namelist() if "/" in name}
    folders = {name for name in folders if name.lower().endswith(".dist-info")}
    if len(folders) != 1:
        raise PackagingError(
            f"{shown(filename)} is not used: a wheel has one .dist-info folder, this has {len(folders)}."
        )
    return folders.pop()


def read_metadata_file(archive: zipfile.ZipFile, filename: str) -> bytes:
    """METADATA as it is in a wheel that is called `filename`. Raises PackagingError when it has not exactly one."""
    member = archive.NameToInfo.get(f"{dist_info(archive, filename)}/METADATA")
    if member is None:
        raise PackagingError(f"{shown(filename)} is not a wheel: there is no METADATA in it.")
    if member.file_size > MAX_METADATA_BYTES:
        raise PackagingError(f"{shown(filename)} is not used: its METADATA is larger than {MAX_METADATA_BYTES} bytes.")
    return archive.read(member)


def core_metadata(path: Path) -> bytes:
    """METADATA as it is in a wheel. Raises PackagingError when the file is not a wheel."""
    with open_wheel(path) as archive:
        return read_metadata_file(archive, path.name)


def wheel_metadata(path: Path) -> dict[str, Any]:
    """What METADATA of a wheel says: name, version, summary, description, requires_dist, requires_python, license,
    urls.

    Raises PackagingError when the file is not a wheel, or one for another name or version than its file name.
    """
    name_and_version(path.name)
    return parse_metadata(core_metadata(path), path.name)


def name_and_version(filename: str) -> tuple[str, Version]:
    """The normalised name and the version of a wheel with this file name. Raises PackagingError."""
    from packaging.utils import InvalidWheelFilename, parse_wheel_filename

    try:
        name, version, _, _ = parse_wheel_filename(filename)
    except InvalidWheelFilename as error:
        raise PackagingError(f"{shown(filename)} is not a wheel's file name: {shown(str(error))}.") from None
    return name, version


def parse_metadata(content: bytes, filename: str) -> dict[str, Any]:
    """METADATA of a wheel with this file name, as `wheel_metadata` gives it. Raises PackagingError."""
    from packaging.utils import canonicalize_name
    from packaging.version import InvalidVersion, Version

    name, version = name_and_version(filename)
    # Headers only: a body that is mail again would be followed inwards without end.
    message = BytesHeaderParser().parsebytes(content)
    for key in ("Name", "Version", "Requires-Python"):
        times = len(message.get_all(key) or [])
        if times > 1:
            raise PackagingError(f"{shown(filename)} is not used: it says its {key.lower()} {times} times.")
    said = {key: _text(message.get(key)) for key in ("Name", "Version", "Summary", "Requires-Python", "License")}
    told = f"{said['Name']} {said['Version']}"
    try:
        same = canonicalize_name(said["Name"] or "") == name and Version(said["Version"] or "") == version
    except InvalidVersion:
        same = False
    if not same or not told.isascii():
        raise PackagingError(f"{shown(filename)} says inside that it is {shown(told)}; it is not used.")
    urls = dict(_pair(line) for line in message.get_all("Project-URL") or [])
    payload = message.get_payload()
    return {
        "name": said["Name"],
        "version": said["Version"],
        "summary": said["Summary"],
        "description": _text(message.get("Description"))
        or (payload.strip() if isinstance(payload, str) else "")
        or None,
        "requires_dist": [str(line) for line in message.get_all("Requires-Dist") or []],
        "requires_python": said["Requires-Python"],
        "license": _text(message.get("License-Expression")) or said["License"],
        "urls": urls,
    }


def _text(value: object) -> str | None:
    return str(value).strip() or None if value is not None else None


def _pair(line: object) -> tuple[str, str]:
    label, _, url = str(line).partition(",")
    return label.strip(), url.strip()


def runtime_hint(requires_dist: Iterable[str]) -> str | None:
    """`VERIFIERS_V1` when the requirement on verifiers starts at 0.2.0 or above, `VERIFIERS_V0` for any other pin.

    None when there is none, or one by address (protocols/hub.md §3.2).
    """
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.utils import canonicalize_name
    from packaging.version import InvalidVersion, Version

    for line in requires_dist:
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            continue
        if canonicalize_name(requirement.name) != "verifiers" or requirement.url or not requirement.specifier:
            continue
        for specifier in requirement.specifier:
            try:
                floor = Version(specifier.version.removesuffix(".*"))
            except InvalidVersion:
                continue
            if specifier.operator in (">=", ">", "==", "~=") and floor >= Version("0.2.0"):
                return "VERIFIERS_V1"
        return "VERIFIERS_V0"
    return None


def editable_wheel(wheel: WheelFile, out_dir: Path) -> WheelFile:
    """A wheel with the same metadata whose code is a path entry to the author's folder, so that changes there count
    at once.

    Raises PackagingError when the environment has no single folder to point at (`import_root` is None).
    """
    if wheel.import_root is None:
        raise PackagingError(f"{wheel.metadata.get('name')} has no folder that could be installed editable.")
    stem = wheel.path.name.split("-", 1)[0]
    out_dir.mkdir(parents=True, exist_ok=True)
    with open_wheel(wheel.path) as archive:
        kept = [name for name in archive.namelist() if name.split("/", 1)[0].endswith(".dist-info")]
        members = {name: archive.read(name) for name in kept if not name.endswith("/RECORD")}
        record = next(name for name in kept if name.endswith("/RECORD"))
    members[f"_{stem}_source.pth"] = f"{wheel.import_root}{os.linesep}".encode()
    target = out_dir / wheel.path.name
    write_wheel(target, members, record)
    return describe_wheel(target, wheel.import_root)


def write_wheel(target: Path, members: dict[str, bytes], record: str) -> None:
    """Write a wheel of these members; `record` is the path of its RECORD, which is computed. Times are fixed."""
    lines = [f"{name},sha256={_record_hash(content)},{len(content)}" for name, content in sorted(members.items())]
    content = {**members, record: ("\n".join([*lines, f"{record},,"]) + "\n").encode()}
    scratch = tempfile.SpooledTemporaryFile(max_size=64 << 20)  # noqa: SIM115
    with scratch:
        with zipfile.ZipFile(scratch, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in [*sorted(members), record]:
                entry = zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0))
                entry.external_attr = 0o100644 << 16
                entry.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(entry, content[name])
        scratch.seek(0)
        write_atomic(target, scratch.read())


def _record_hash(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()


def installed_paths(path: Path) -> Sequence[str]:
    """The files that a wheel puts into site-packages, without its own dist-info; paths with `/`."""
    found = []
    with open_wheel(path) as archive:
        for name in archive.namelist():
            first, _, rest = name.partition("/")
            if name.endswith("/") or first.endswith(".dist-info"):
                continue
            if first.endswith(".data"):
                scheme, _, name = rest.partition("/")
                if scheme not in ("purelib", "platlib"):
                    continue
            found.append(name)
    return found
