"""Writing a file so that a reader sees the old one or the new one and nothing between."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def atomic_file(target: Path, mode: int = 0o644) -> Generator[BinaryIO]:
    """A new binary file that takes `target`'s place, synced to disk, when the block ends well, and is gone when it
    does not.

    Parent folders are made. Raises OSError.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
    scratch = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        scratch.chmod(mode)
        scratch.replace(target)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise


def write_atomic(target: Path, content: bytes | str, mode: int = 0o644) -> None:
    """Put `content` (text as UTF-8) at `target` in one step. Raises OSError."""
    with atomic_file(target, mode) as file:
        file.write(content.encode() if isinstance(content, str) else content)
