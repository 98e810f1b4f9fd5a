"""A sandbox's log from where its reader has come to, held until there is more of it; also of one that has ended."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
from dataclasses import dataclass

from prime_hub.runner.output import LogPart
from prime_hub.runner.records import TAIL_FILE, Record

READ_BYTES = 65536
REST_OF_A_CHARACTER_SECONDS = 0.05


@dataclass(frozen=True)
class LogText:
    """What came from an offset on, the offset to go on with, and whether that is all there will ever be."""

    text: str
    offset: int
    complete: bool


async def follow(record: Record, offset: int, wait: float) -> LogText:
    """The log from byte `offset` on (a negative one counts from the end). While there is nothing yet and the sandbox
    has not ended, it waits for at most `wait` seconds.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + wait
    while True:
        found = await _look(record, offset, max(0.0, deadline - loop.time()))
        if found is None:  # what it has to do with has just changed
            continue
        text, rest = _characters(found, offset, final=not record.live)
        over = not record.live and found.end >= (record.log_end or 0)
        if text or over or loop.time() >= deadline:
            return LogText(text, found.end - rest, over)
        if rest:
            await asyncio.sleep(REST_OF_A_CHARACTER_SECONDS)


async def _look(record: Record, offset: int, wait: float) -> LogPart | None:
    """What there is, after `wait` seconds at most; None where the sandbox started or ended meanwhile."""
    if not record.live:
        return await asyncio.to_thread(_kept, record, offset)
    running = record.running
    changed = asyncio.ensure_future(record.changed.wait())
    reading = None if running is None else asyncio.ensure_future(running.log_part(offset, READ_BYTES, wait))
    try:
        tasks: set[asyncio.Future] = {changed} if reading is None else {changed, reading}
        await asyncio.wait(tasks, timeout=wait if reading is None else None, return_when=asyncio.FIRST_COMPLETED)
        if reading is not None and reading.done() and record.running is running:
            return reading.result()
        if reading is None and not changed.done():
            return LogPart(b"", offset)
        return None
    finally:
        for task in (changed, reading):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    await task


def _kept(record: Record, offset: int) -> LogPart:
    """Of the end of the log that outlives a sandbox."""
    try:
        data = (record.folder / TAIL_FILE).read_bytes()
    except OSError:
        data = b""
    end = max(record.log_end or 0, len(data))
    first = end - len(data)
    start = max(first, end + offset if offset < 0 else min(offset, end))
    data = data[start - first : start - first + READ_BYTES]
    return LogPart(data, start + len(data))


def _characters(part: LogPart, offset: int, *, final: bool) -> tuple[str, int]:
    """The text, and how many bytes at its end belong to a character whose rest is still to come."""
    data = part.data
    if offset < 0:
        # It may begin in the middle of one.
        begin = next((at for at, byte in enumerate(data[:4]) if byte & 0xC0 != 0x80), 0)
        data = data[begin:]
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    text = decoder.decode(data, final=final)
    return text, len(decoder.getstate()[0])
