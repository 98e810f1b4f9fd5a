"""Commands by an engine's exec, with an engine that does what engines do only now and then."""

import asyncio
import signal
import struct

from prime_hub.runner.runtimes import oci_exec
from prime_hub.runner.runtimes.values import STDOUT, CommandSpec


class FakeEngine:
    """One exec, whose process and whose stream the test holds."""

    name = "Fake"

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.running = True
        self.reader = asyncio.StreamReader()
        self.mark = ""

    async def json(self, method, path, *, body=None, **_):
        if path.endswith("/exec"):
            self.mark = body["Cmd"][4]
            return {"Id": "one"}
        return {"Running": self.running, "Pid": self.pid, "ExitCode": None if self.running else 137}

    async def hijack(self, path, body):
        for stream in (1, 2):
            self.say(stream, f"\x1e{self.mark} start 7\x1e".encode())
        return self.reader, None

    def say(self, stream: int, data: bytes) -> None:
        self.reader.feed_data(struct.pack(">B3xI", stream, len(data)) + data)


class FakeBox:
    container = "box"
    has_shell = True
    host_signals = True

    def __init__(self, engine: FakeEngine) -> None:
        self.engine = engine


async def test_a_killed_command_whose_pipes_are_held_ends_for_a_slow_reader_too():
    process = await asyncio.create_subprocess_exec("sleep", "600")
    engine = FakeEngine(process.pid)
    command = await oci_exec.start(FakeBox(engine), CommandSpec(("true",)), {})
    pieces = [b"%d" % number for number in range(3 * oci_exec.QUEUED)]
    for piece in pieces:
        engine.say(STDOUT, piece)
    process.send_signal(signal.SIGKILL)
    await process.wait()
    engine.running = False
    assert await command.wait() == 137
    # Its children hold the stream open, and nothing was read until now.
    async with asyncio.timeout(30):
        assert [data async for _, data in command.output()] == pieces
    await command.close()
