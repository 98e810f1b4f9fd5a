"""A command in a sandbox that is attached to this program: what it prints goes here, what is put in here goes there."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from prime_cli.output import out
from prime_cli.sandboxes.terminal import RawTerminal, on_signals, size
from prime_core.errors import PrimeError

if TYPE_CHECKING:
    from prime_cli.sandboxes.run import Asked
    from prime_core.connection import Connection
    from prime_sandboxes import AsyncSandboxProcess

PIECE = 1 << 16
LINGER_SECONDS = 30.0
RETRY_SECONDS = 0.5
GONE = b"\r\n[The Hub does not answer; trying again. Enter ~ . leaves.]\r\n"


async def streamed(hub: Connection, sandbox_id: str, asked: Asked, stdin: bool) -> int:
    """Run it with its output, and what is piped in, passed through; its exit code. SIGINT goes to it, a second one ends
    it. Raises what the SDK raises, and KeyboardInterrupt when it was ended from here.
    """
    from prime_sandboxes import AsyncSandboxClient

    piped = stdin and not sys.stdin.closed and not sys.stdin.isatty()
    task = asyncio.current_task()
    assert task is not None
    async with AsyncSandboxClient(hub) as client:
        process = await asked.start(client, sandbox_id, stdin=piped)
        interrupted = False
        sending: set[asyncio.Future[None]] = set()

        def interrupt() -> None:
            nonlocal interrupted
            if interrupted:
                task.cancel()
                return
            interrupted = True
            sending.add(asyncio.ensure_future(_tell(process, signal.SIGINT)))

        stops = {signal.SIGINT: interrupt, signal.SIGTERM: task.cancel, signal.SIGHUP: task.cancel}
        feeding = asyncio.ensure_future(_feed(process)) if piped else None
        try:
            with on_signals(stops):
                async for piece in process.output():
                    stream = sys.stderr if piece.stream == "stderr" else sys.stdout
                    await asyncio.to_thread(_put, stream, piece.data)
                return await process.wait()
        except asyncio.CancelledError:
            raise KeyboardInterrupt from None
        finally:
            for work in (feeding, *sending):
                if work is not None:
                    work.cancel()
            await process.aclose()


def _put(stream: Any, data: bytes) -> None:
    stream.buffer.write(data)
    stream.buffer.flush()


async def _tell(process: AsyncSandboxProcess, number: int) -> None:
    with contextlib.suppress(PrimeError):
        await process.send_signal(number)


async def _feed(process: AsyncSandboxProcess) -> None:
    with contextlib.suppress(PrimeError):  # it reads no more; its end says the rest
        async for data in _input():
            await process.write_stdin(data)
        await process.close_stdin()


async def _input() -> AsyncIterator[bytes]:
    """Standard input, read by a thread that does not keep the program from ending."""
    loop = asyncio.get_running_loop()
    pieces: asyncio.Queue[bytes] = asyncio.Queue()
    wanted = threading.Semaphore(2)

    def read() -> None:
        while True:
            wanted.acquire()
            try:
                data = os.read(sys.stdin.fileno(), PIECE)
            except OSError:
                data = b""
            with contextlib.suppress(RuntimeError):  # nobody listens any more
                loop.call_soon_threadsafe(pieces.put_nowait, data)
            if not data:
                return

    threading.Thread(target=read, name="stdin", daemon=True).start()
    while data := await pieces.get():
        yield data
        wanted.release()


async def on_terminal(hub: Connection, sandbox_id: str, asked: Asked) -> int:
    """Run it on this terminal, given away raw; its exit code, 130 when it was left. Raises as `streamed`."""
    from prime_sandboxes import AsyncSandboxClient

    task = asyncio.current_task()
    assert task is not None
    async with AsyncSandboxClient(hub) as client:
        process = await asked.start(client, sandbox_id, pty=size(), linger=LINGER_SECONDS)
        resizing: set[asyncio.Future[None]] = set()

        def resized() -> None:
            resizing.add(asyncio.ensure_future(_resize(process, *size())))

        stops = {signal.SIGTERM: task.cancel, signal.SIGHUP: task.cancel, signal.SIGWINCH: resized}
        try:
            with RawTerminal() as terminal, on_signals(stops):
                typing = asyncio.ensure_future(_type(process, terminal))
                try:
                    showing = asyncio.ensure_future(_show(process, terminal))
                    try:
                        await asyncio.wait({typing, showing}, return_when=asyncio.FIRST_COMPLETED)
                        if typing.done():
                            typing.result()
                        if showing.done():
                            showing.result()
                            code = await process.wait()
                            terminal.torn = False
                            return code
                    finally:
                        showing.cancel()
                        await asyncio.gather(showing, return_exceptions=True)
                finally:
                    typing.cancel()
                    for work in resizing:
                        work.cancel()
                    await asyncio.gather(typing, return_exceptions=True)
        except asyncio.CancelledError:
            raise KeyboardInterrupt from None
        finally:
            await process.aclose()
    out.note("Left; the command is ended.")
    return 130


async def _show(process: AsyncSandboxProcess, terminal: Any) -> None:
    async for piece in process.output():
        terminal.watch(piece.data)
        await asyncio.to_thread(_put, sys.stdout, piece.data)


async def _type(process: AsyncSandboxProcess, terminal: Any) -> None:
    async for data in terminal.keys():
        told = False
        while not await _given(process, data):
            if not told:
                told = True
                await asyncio.to_thread(_put, sys.stdout, GONE)
            await asyncio.sleep(RETRY_SECONDS)


async def _given(process: AsyncSandboxProcess, data: bytes) -> bool:
    """Whether what was typed has been taken, or never will be."""
    from prime_core.errors import APIError

    try:
        await process.write_stdin(data)
    except APIError:
        return False  # the Hub is away; the process itself knows when to give up
    except PrimeError:
        pass  # it has ended or reads no more, which its output tells
    return True


async def _resize(process: AsyncSandboxProcess, rows: int, columns: int) -> None:
    with contextlib.suppress(PrimeError):
        await process.resize(rows, columns)
