"""Files for a moment."""

from __future__ import annotations

import os
import tempfile


def write_temp_file(content: str, suffix: str = ".txt") -> str:
    """Write a new file in the temporary folder and give its path; it is the caller's to delete."""
    number, path = tempfile.mkstemp(suffix=suffix)
    with os.fdopen(number, "w", encoding="utf-8") as file:
        file.write(content)
    return path
