"""Tests of what a person may not do, run as root: for a while it is held to the modes of files, as others are."""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
from collections.abc import Generator

_VERSION = 0x20080522
_OVERRIDES = 1 << 1 | 1 << 2  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH


@contextlib.contextmanager
def held_to_modes() -> Generator[None]:
    """Within the block this thread reads and writes only what the modes of files let it; nothing changes for others than
    root. Programs that it starts have root's rights again.
    """
    if os.geteuid() != 0:
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header = ctypes.create_string_buffer(struct.pack("Ii", _VERSION, 0))
    kept = ctypes.create_string_buffer(24)
    if libc.capget(header, kept) != 0:
        raise OSError(ctypes.get_errno(), "capget")
    sets = list(struct.unpack("6I", kept.raw))
    sets[0] &= ~_OVERRIDES
    if libc.capset(header, ctypes.create_string_buffer(struct.pack("6I", *sets))) != 0:
        raise OSError(ctypes.get_errno(), "capset")
    try:
        yield
    finally:
        libc.capset(header, kept)
