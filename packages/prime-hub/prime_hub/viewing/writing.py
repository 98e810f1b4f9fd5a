"""The file that `export` writes: whole or not at all, and never over another one unasked."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from pathlib import Path

from prime_evals.errors import EvalsError
from prime_hub.viewing.export import Written, export


class ExportError(Exception):
    """The file cannot be written; the message is one sentence."""


def write_file(folder: Path, target: str, force: bool, room: float, only: str | None) -> None:
    """Write the run in `folder` to a file, or for `-` to standard output; what was left out is said on stderr. Raises
    ExportError.
    """
    if not 0 < room < 10_000:
        raise ExportError("--max-mb is a number of megabytes above 0.")
    try:
        if target == "-":
            found = export(folder, sys.stdout.write, room, only)
            sys.stdout.flush()
        else:
            found = _write(folder, Path(target), force, room, only)
    except EvalsError as error:
        raise ExportError(str(error)) from None
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return
    except OSError as error:
        raise ExportError(f"{target} cannot be written: {error.strerror or error}.") from None
    if target != "-":
        print(f"Wrote {target}: {found.lines:,} rollouts, {found.conversations:,} conversations.", file=sys.stderr)
    if missing := found.missing(room):
        print(f"{missing} --max-mb gives it more room, --only takes some kind of rollouts.", file=sys.stderr)


def _write(folder: Path, target: Path, force: bool, room: float, only: str | None) -> Written:
    if target.is_dir():
        raise ExportError(f"{target} is a folder; name a file in it.")
    if target.exists() and not force:
        raise ExportError(f"{target} is there already; --force writes over it.")
    handle, scratch = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        # Conversations may be private, so only who wrote it reads it, as mkstemp makes it.
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            found = export(folder, file.write, room, only)
        Path(scratch).replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(scratch).unlink()
        raise
    return found
