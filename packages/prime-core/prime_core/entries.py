"""Which names the entries of an archive may have, so that they mean the same on every system, and to every reader.

Refused is what would lie outside the folder it is unpacked into, what a person cannot see in a list, and two names, of files or
of folders, that are one where capitals (Windows, macOS), joiners or the way an accent is written (macOS) do not count.
"""

from __future__ import annotations

import re
import unicodedata
from pathlib import PurePosixPath

MAX_ENTRIES = 20_000
MAX_BYTES = 1 << 30
MAX_DEPTH = 64
MAX_PATH_BYTES = 1024
MAX_PART_BYTES = 255
# Control characters, those that show nothing or turn the text around, and the separators of lines.
_UNSEEN = frozenset({"Cc", "Cf", "Zl", "Zp"})
# Persian words and emoji are written with them; behind a letter of ASCII they show nothing.
_JOINERS = "\u200c\u200d"
_LOOSE_JOINER = re.compile(f"(?<![^\\0-\\x7f])[{_JOINERS}]")
_NO_JOINERS = str.maketrans("", "", _JOINERS)


class BadName(ValueError):
    """The end of a sentence that begins with `The archive's entry '…'`."""


def shown(name: str) -> str:
    """A name as a sentence may hold it: short, and nothing in it unseen."""
    text = "".join(_escaped(character) for character in name)
    return text if len(text) <= 200 else f"{text[:150]}…{text[-40:]}"


def _escaped(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode()


def plain_name(name: str, folder: bool = False) -> str:
    """The relative path of an entry, without a `./` before it or a `/` behind a folder; "" for the folder itself.

    Raises BadName.
    """
    if any("\ud800" <= character <= "\udfff" for character in name):
        raise BadName("has a name that is not text in UTF-8")
    if _LOOSE_JOINER.search(name) or any(
        character not in _JOINERS and unicodedata.category(character) in _UNSEEN for character in name
    ):
        raise BadName("has characters that cannot be seen in its name; rename it")
    name = name.removeprefix("./")
    if folder:
        name = "" if name == "." else name.rstrip("/") if name.strip("/") else name
    parts = name.split("/")
    if name.startswith("/") or ".." in parts or "\\" in name:
        raise BadName("would lie outside its folder")
    if any(re.match("[A-Za-z]:", part) for part in parts):
        raise BadName("has a letter and ':' at the start of a name, which is a drive on Windows; rename it")
    if len(parts) > MAX_DEPTH:
        raise BadName(f"lies deeper than {MAX_DEPTH} folders")
    sizes = [len(part.encode()) for part in parts]
    if max(sizes) > MAX_PART_BYTES or sum(sizes) + len(parts) > MAX_PATH_BYTES:
        raise BadName(f"has a name longer than {MAX_PATH_BYTES} bytes, or than {MAX_PART_BYTES} between two slashes")
    if "/".join(PurePosixPath(name).parts) != name or not (name or folder):
        raise BadName("is not a plain path")
    return name


class Entries:
    """The names that an archive has had so far."""

    def __init__(self) -> None:
        self._names: dict[str, tuple[str, bool]] = {}

    def add(self, name: str, folder: bool = False) -> str:
        """Take one more; its `plain_name`. Raises BadName, also for what cannot lie beside what there is."""
        name = plain_name(name, folder)
        if not name:
            return name
        for end in (at for at, character in enumerate(name) if character == "/"):
            self._claim(name[:end], True)
        self._claim(name, folder)
        return name

    def _claim(self, name: str, folder: bool) -> None:
        key = _folded(name)
        there = self._names.get(key)
        if there is None:
            self._names[key] = (name, folder)
        elif there[1] != folder:
            raise BadName("is a file and a folder at once")
        elif there[0] != name:
            both = f"lies in '{shown(name)}', which and '{shown(there[0])}'" if folder else f"and '{shown(there[0])}'"
            raise BadName(
                f"{both} are one name where capitals, joiners or the way an accent is written do not count; "
                "rename one of them"
            )
        elif not folder:
            raise BadName("is there twice")


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name.translate(_NO_JOINERS)).casefold())
