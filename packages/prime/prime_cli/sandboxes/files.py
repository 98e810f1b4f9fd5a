"""`prime sandbox upload` and `download`: files and folders in and out of a sandbox."""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated

import typer

from prime_cli.groups import examples
from prime_cli.output import out
from prime_cli.sandboxes.shared import connected, find, size
from prime_core.errors import PrimeError

if TYPE_CHECKING:
    from prime_sandboxes import Files

UPLOAD_EXAMPLES = examples(
    "prime sandbox upload my-env data.csv /app/data.csv",
    "prime sandbox upload my-env data.csv /app/          # into the folder, under its own name",
    "prime sandbox upload my-env ./proj /app/proj        # a folder's content, into the folder",
    "sort names.txt | prime sandbox upload my-env - /app/names.txt",
)
DOWNLOAD_EXAMPLES = examples(
    "prime sandbox download my-env /app/results.json",
    "prime sandbox download my-env /app/results.json today.json",
    "prime sandbox download my-env /app/outputs ./outputs",
    "prime sandbox download my-env /app/results.json - | jq .",
)
STANDARD = "-"  # a file of that name is ./-
SandboxArg = Annotated[str, typer.Argument(metavar="SANDBOX", help="Its id, the beginning of it, or its name.")]


def upload(
    sandbox: SandboxArg,
    local: Annotated[str, typer.Argument(metavar="LOCAL", help="A file or a folder here; '-': standard input.")],
    target: Annotated[str, typer.Argument(metavar="REMOTE", help="Where it goes in the sandbox.")],
) -> None:
    """Copy a file or a folder into a sandbox. Folders on the way are made; what is there is overwritten."""
    from prime_sandboxes import SandboxClient

    source = Path(local)
    if local != STANDARD and not source.exists():
        raise PrimeError(f"There is no {source} here.")
    with SandboxClient(connected()) as client:
        files = client.files(find(client, sandbox).id)
        if local == STANDARD:
            moved = _upload_input(files, target)
        else:
            if not source.is_dir():
                target = _beneath(files, target, source.resolve().name)
            with _progress("Uploading", _weight(source)) as seen:
                moved = files.upload(source, target, progress=seen)
    out.success(f"Uploaded {size(moved)} to {target}")


def download(
    sandbox: SandboxArg,
    source: Annotated[str, typer.Argument(metavar="REMOTE", help="A file or a folder in the sandbox.")],
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="[LOCAL]", help="Where it goes here; '-': standard output. [its own name, in this folder]"
        ),
    ] = None,
) -> None:
    """Copy a file or a folder out of a sandbox. What is here under that name is overwritten."""
    from prime_sandboxes import SandboxClient

    name = PurePosixPath(source).name
    if target is None and name in ("", "..", "."):
        raise typer.BadParameter(f"'{source}' has no name of its own; say where it goes", param_hint="LOCAL")
    with SandboxClient(connected()) as client:
        files = client.files(find(client, sandbox).id)
        info = files.stat(source)
        folder = info.kind == "folder"
        if target == STANDARD:
            _download_output(files, source, folder)
            return
        where = Path(target or name)
        if not folder and where.is_dir():
            where = where / name
        with _progress("Downloading", None if folder else info.size) as seen:
            moved = files.download(source, where, progress=seen)
    out.success(f"Downloaded {size(moved)} to {where}")


def _upload_input(files: Files, target: str) -> int:
    """Standard input to its end, as a file of the sandbox. It is read whole first: the Hub is told how much comes."""
    if _is_folder(files, target):
        raise PrimeError(f"{target} is a folder, and standard input has no name.", "Name the file that it is to be.")
    with tempfile.NamedTemporaryFile(prefix="prime-upload-") as kept:
        shutil.copyfileobj(sys.stdin.buffer, kept)
        kept.flush()
        with _progress("Uploading", Path(kept.name).stat().st_size) as seen:
            return files.write(target, Path(kept.name), progress=seen)


def _download_output(files: Files, source: str, folder: bool) -> None:
    """A file of the sandbox to standard output, once all of it is here: half a file is no answer."""
    if folder:
        raise PrimeError(
            f"{source} is a folder, and only a file goes to standard output.",
            f"Name a folder here, or pack it there: prime sandbox exec SANDBOX -- tar c -C {source} .",
        )
    with tempfile.TemporaryDirectory(prefix="prime-download-") as scratch:
        kept = Path(scratch) / "file"
        files.download(source, kept)
        with kept.open("rb") as file:
            shutil.copyfileobj(file, sys.stdout.buffer)
        sys.stdout.buffer.flush()


def _is_folder(files: Files, target: str) -> bool:
    return target.endswith("/") or (files.exists(target) and files.stat(target).kind == "folder")


def _beneath(files: Files, target: str, name: str) -> str:
    """The path of a file that is to go to `target`, which may be a folder."""
    if _is_folder(files, target):
        return f"{target.rstrip('/')}/{name}"
    return target


def _weight(source: Path) -> int | None:
    return source.stat().st_size if source.is_file() else None


@contextmanager
def _progress(what: str, total: int | None) -> Generator[Callable[[int], object]]:
    """How far it is, on a terminal; what is small is over before there is anything to say."""
    begun = said = time.monotonic()
    shown = False

    def seen(moved: int) -> None:
        nonlocal said, shown
        now = time.monotonic()
        if not sys.stderr.isatty() or now - said < 0.2:
            return
        said, shown = now, True
        part = f" of {size(total)} ({100 * moved // max(total, 1)} %)" if total else ""
        sys.stderr.write(f"\r\x1b[K{what} {size(moved)}{part}, {size(moved / (now - begun))}/s")
        sys.stderr.flush()

    try:
        yield seen
    finally:
        if shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
