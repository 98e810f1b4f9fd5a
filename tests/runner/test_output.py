"""The log of a sandbox on disk: bounded, and each byte keeps its number."""

from __future__ import annotations

from pathlib import Path

from prime_hub.runner.output import BoundedFile, LogPart


def test_bytes_keep_their_numbers_when_the_oldest_go(tmp_path: Path) -> None:
    path = tmp_path / "output.log"
    log = BoundedFile(path, 100)
    assert log.part(0, 10) == LogPart(b"", 0)
    assert log.part(-10, 10) == LogPart(b"", 0)
    whole = b""
    for number in range(100):
        line = b"line %02d\n" % number
        log.write(line)
        whole += line
        assert log.part(-8, 8) == LogPart(line, len(whole))
        assert sum(file.stat().st_size for file in tmp_path.glob("output.log*")) <= 120
        # Nobody's program goes on: another one reads the same folder.
        kept = BoundedFile(path, 100).part(0, 1000)
        assert whole.endswith(kept.data) and kept.end == len(whole) and len(kept.data) >= min(50, len(whole))
        first = kept.end - len(kept.data)
        for offset in range(first, kept.end, 7):
            assert log.part(offset, 5) == LogPart(whole[offset : offset + 5], min(offset + 5, len(whole)))
    assert log.part(len(whole), 10) == log.part(len(whole) + 5, 10) == LogPart(b"", len(whole))
    assert log.part(3, 4).data == log.part(0, 4).data == kept.data[:4]
    assert log.tail(9) == whole[-9:] and log.tail(0) == b""
    log.remove()
    assert list(tmp_path.iterdir()) == []
