"""Changing what is installed so that a change which does not come to its end leaves everything as it was.

Installers remove the old before they put the new in its place. So before one runs, the files of the distributions that
it will remove are kept as further links in `site-packages/.prime-install`, with a journal of what there was. When the
change fails, or is interrupted, files that are new are removed and those that are gone are put back. A change that was
killed is taken back by the next command that changes the same place; whole distributions that came later are left, since
somebody may have installed them by other means. One command changes a place at a time, an
installer that outlives its command included: the lock is on the folder itself, and the installer inherits it.
"""

from __future__ import annotations

import csv
import fcntl
import json
import os
import shutil
import signal
import threading
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

from prime_core.errors import InstallError
from prime_core.files import write_atomic
from prime_core.interpreters import Interpreter

KEPT = ".prime-install"
JOURNAL = "journal.json"
LATER_SECONDS = 60  # what comes so long after a change began may be another's


class Place:
    """Where things are installed, locked for one change. `lock` is the descriptor that an installer inherits; `recovered`
    says whether a change that was killed had to be taken back first.
    """

    def __init__(self, libraries: Iterable[Path], scripts: Path, lock: int) -> None:
        self.lock = lock
        self._libraries = list(dict.fromkeys(folder.resolve() for folder in libraries))
        self._scripts = scripts.resolve()
        self._kept = self._libraries[0] / KEPT
        self.recovered = self._recover()

    def _recover(self) -> bool:
        if not self._kept.is_dir():
            return False
        began = (self._kept / JOURNAL).is_file()
        if began:
            self.restore(self._others())
        self._forget()
        return began

    @contextmanager
    def change(self, names: Iterable[str]) -> Generator[None]:
        """Change it within the block, which may remove the distributions of these (normalised) names.

        When the block raises, or the process is told to end, everything is as before.
        """
        self._keep(set(names))
        try:
            with _ended_by_an_exception():
                yield
        except BaseException:
            with _undisturbed():
                self.restore()
                self._forget()
            raise
        self._forget()

    def restore(self, others: frozenset[Path] = frozenset()) -> None:
        """Remove what is new since the journal was written but `others`, and put back what is gone. May be repeated."""
        journal = self._journal()
        for folder in (*self._libraries, self._scripts):
            there = set(journal["present"].get(str(folder), ()))
            # What lies in a folder comes after it here, and goes before it.
            for name in reversed(_entries(folder, deep=folder != self._scripts)):
                if name not in there and folder / name not in others:
                    _remove(folder / name)
        for target, link in journal["kept"].items():
            _put_back(self._kept / link, Path(target))

    def _journal(self) -> dict[str, Any]:
        return json.loads((self._kept / JOURNAL).read_text(encoding="utf-8"))

    def _others(self) -> frozenset[Path]:
        """The files of whole distributions that came long after the change began and are none of those it was about."""
        journal = self._journal()
        since = (self._kept / JOURNAL).stat().st_mtime + LATER_SECONDS
        found: set[Path] = set()
        for folder in self._libraries:
            there = set(journal["present"].get(str(folder), ()))
            for info in folder.glob("*.dist-info"):
                if f"{info.name}/" in there or _name_of(info) in journal.get("names", ()):
                    continue
                files = set(_files_in(folder, info))
                later = any(record.stat().st_ctime > since for record in info.glob("RECORD"))
                if later and all(path.exists() for path in files):
                    found |= files
        return frozenset(found)

    def _keep(self, names: set[str]) -> None:
        self._forget()
        try:
            self._kept.mkdir()
        except OSError:
            raise _closed(self._kept.parent) from None
        kept: dict[str, str] = {}
        for folder in self._libraries:
            for path in _files_of(folder, names):
                if str(path) not in kept and path.is_file() and not path.is_symlink():
                    link = str(len(kept))
                    _link(path, self._kept / link)
                    kept[str(path)] = link
        present = {str(folder): _entries(folder, deep=True) for folder in self._libraries}
        present[str(self._scripts)] = _entries(self._scripts, deep=False)
        write_atomic(self._kept / JOURNAL, json.dumps({"present": present, "kept": kept, "names": sorted(names)}))

    def _forget(self) -> None:
        (self._kept / JOURNAL).unlink(missing_ok=True)  # from here on there is nothing to take back
        shutil.rmtree(self._kept, ignore_errors=True)


def _closed(folder: Path) -> InstallError:
    return InstallError(
        f"{folder} cannot be written to, so nothing can be installed there.",
        "Make a virtual environment with 'uv venv', or name one with --python.",
    )


@contextmanager
def place_of(target: Interpreter, announce: Callable[[str], None]) -> Generator[Place]:
    """The folders that `target` has things installed in, for one change; what was begun there and killed is taken back.

    Raises InstallError when they cannot be written to.
    """
    first = target.folders["purelib"].resolve()
    if not os.access(first, os.W_OK):
        raise _closed(first)
    lock = os.open(first, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _take(lock, target, announce)
        place = Place((first, target.folders["platlib"]), target.folders["scripts"], lock)
        if place.recovered:
            announce(f"An installation into {target.prefix} was cut off before its end; it was taken back.")
        yield place
    finally:
        os.close(lock)


def _take(lock: int, target: Interpreter, announce: Callable[[str], None]) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        announce(f"Another installation into {target.prefix} is at work; waiting for it")
        fcntl.flock(lock, fcntl.LOCK_EX)
    except OSError:
        return  # a file system without locks


@contextmanager
def _ended_by_an_exception() -> Generator[None]:
    """SIGTERM and SIGHUP end the block as Ctrl-C does, so that it can be taken back."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _undisturbed() -> Generator[None]:
    """A further Ctrl-C, as impatience gives it, does not end the block."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _entries(folder: Path, deep: bool) -> list[str]:
    """Everything in `folder` relative to it, folders (with a slash at the end) before what lies in them; not `deep`: only
    the files that lie in it directly.
    """
    found: list[str] = []
    left = [""]
    while left:
        inside = left.pop()
        try:
            entries = list(os.scandir(folder / inside))
        except OSError:
            continue
        for entry in entries:
            name = f"{inside}{entry.name}"
            if not entry.is_dir(follow_symlinks=False):
                found.append(name)
            elif deep and name != KEPT:
                found.append(f"{name}/")
                left.append(f"{name}/")
    return found


def _name_of(info: Path) -> str:
    """The normalised name of the distribution whose `.dist-info` folder this is."""
    from packaging.utils import canonicalize_name

    return str(canonicalize_name(info.name.removesuffix(".dist-info").rpartition("-")[0]))


def _files_of(folder: Path, names: set[str]) -> Generator[Path]:
    """The files of these distributions."""
    for info in sorted(folder.glob("*.dist-info")):
        if _name_of(info) in names:
            yield from _files_in(folder, info)


def _files_in(folder: Path, info: Path) -> Generator[Path]:
    """The files of one distribution: what its RECORD lists, and all of its `.dist-info`."""
    yield from (path for path in info.rglob("*") if path.is_file())
    try:
        lines = (info / "RECORD").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for row in csv.reader(lines):
        if row:
            yield Path(os.path.normpath(folder / row[0]))


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another disk, or one without links
        shutil.copy2(source, target)


def _put_back(kept: Path, target: Path) -> None:
    if not kept.exists() or (target.exists() and target.samefile(kept)):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = target.with_name(f"{target.name}.{KEPT}")
    scratch.unlink(missing_ok=True)
    _link(kept, scratch)
    scratch.replace(target)


def _remove(path: Path) -> None:
    with suppress(OSError):  # a folder in which something else still lies
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
