"""Words that the wrapper of a command says in between its output: `\\x1e MARK SPACE word \\x1e`, MARK known to nobody before."""

from __future__ import annotations

from collections.abc import Iterator

WORD_BYTES = 256


class Markers:
    """Takes output apart, a stream at a time."""

    def __init__(self, mark: str) -> None:
        self._begin = b"\x1e" + mark.encode() + b" "
        self._held: dict[int, bytes] = {}

    def split(self, stream: int, data: bytes) -> Iterator[tuple[bytes, str | None]]:
        """Pieces of output, each with the word that followed it; what may be half a marker is held back."""
        data = self._held.pop(stream, b"") + data
        while True:
            at = data.find(self._begin)
            if at < 0:
                keep = self._half(data)
                if keep:
                    self._held[stream] = data[len(data) - keep :]
                yield data[: len(data) - keep], None
                return
            end = data.find(b"\x1e", at + len(self._begin))
            if end < 0:
                if len(data) - at > WORD_BYTES:
                    yield data, None
                    return
                self._held[stream] = data[at:]
                yield data[:at], None
                return
            word = data[at + len(self._begin) : end].decode("utf-8", "replace")
            yield data[:at], word
            data = data[end + 1 :]

    def _half(self, data: bytes) -> int:
        """How many bytes at the end may begin a marker."""
        at = data.rfind(b"\x1e", max(0, len(data) - len(self._begin) + 1))
        return len(data) - at if at >= 0 and self._begin.startswith(data[at:]) else 0
