"""Wheels that are unusual and good: each is taken."""

from __future__ import annotations

import hashlib
import io
import zipfile

from tests.hub.hostile_wheels import DATA, DATE, INFO, Made, content, in_folder, named, piped, record, zipped


def large_form(folder: str = "tricky_more") -> bytes:
    """A good wheel whose entries have their lengths in the form for huge files."""
    files = content({f"{folder}/a.py": b"a = 1\n" * 99, f"{folder}/empty.py": b""})
    files[f"{INFO}/RECORD"] = record(files)
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            with archive.open(zipfile.ZipInfo(name, DATE), "w", force_zip64=True) as into:
                into.write(data)
    return target.getvalue()


def hex_record() -> bytes:
    """A good wheel whose RECORD has its hashes in hex."""
    lines = [f"{name},sha256={hashlib.sha256(data).hexdigest()},{len(data)}\n" for name, data in content().items()]
    return zipped(content(), recorded=("".join(lines) + f"{INFO}/RECORD,,\n").encode())


FINE: dict[str, Made] = {
    "lengths in the form for huge files": large_form,
    "lengths behind the bytes": piped,
    "lengths behind the bytes, in the form for huge files": lambda: piped(large=True),
    "hashes in hex": hex_record,
    "a dist-info folder in another spelling": in_folder("Tricky-0.1.dist-info"),
    "a data folder": named(f"{DATA}/purelib/tricky_more.py"),
    "a data folder in another spelling": named("Tricky-0.1.data/scripts/run"),
    "a word with a joiner": named("\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645.txt"),
    "an emoji with joiners": named("\U0001f468\u200d\U0001f469\u200d\U0001f467.txt"),
}
