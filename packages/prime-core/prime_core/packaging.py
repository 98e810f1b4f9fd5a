"""Packing an environment: the names under which the other packages use `prime_core.archive` and `prime_core.wheel`."""

from prime_core.archive import (
    MAX_BYTES,
    MAX_MEMBERS,
    archive_files,
    content_hash,
    extract_archive,
    hash_archive,
    read_archive,
    write_source_archive,
)
from prime_core.wheel import (
    WheelFile,
    build_wheel,
    core_metadata,
    describe_wheel,
    runtime_hint,
    sha256_of,
    wheel_metadata,
)

__all__ = [
    "MAX_BYTES",
    "MAX_MEMBERS",
    "WheelFile",
    "archive_files",
    "build_wheel",
    "content_hash",
    "core_metadata",
    "describe_wheel",
    "extract_archive",
    "hash_archive",
    "read_archive",
    "runtime_hint",
    "sha256_of",
    "wheel_metadata",
    "write_source_archive",
]
