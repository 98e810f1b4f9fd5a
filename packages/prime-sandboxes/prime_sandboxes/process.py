"""A command in a sandbox, while it runs: what it prints, its input, its terminal, signals, its end.

What comes is a stream of frames: one byte kind, four bytes length (big-endian), payload. `s` is JSON `{key, pid}`, `o` and
`e` are output, `k` is a sign of life, `x` the end: JSON `{exit_code}`, or with `error` and `detail` where it did not end by
itself.
"""

from __future__ import annotations

import json
import signal as signals
import struct
import uuid
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

from prime_sandboxes.exceptions import APIError, CommandError, CommandTimeoutError

if TYPE_CHECKING:
    import asyncio

    import httpx

    from prime_sandboxes.gateway import Gateway

SILENCE_SECONDS = 60.0
"""Four signs of life of the Hub have not come: the connection is dead, whatever the network says."""
CONTROL_SECONDS = 10.0
SLACK_SECONDS = 15.0
ATTACH_ATTEMPTS = 5
READ_AHEAD_BYTES = 1 << 20
UNREAD_BYTES = 16 << 20
MAX_PAYLOAD = 4 << 20
INPUT_PIECE = 1 << 20
_HEAD = struct.Struct(">cI")

StreamName = Literal["stdout", "stderr"]


class Output(NamedTuple):
    """A piece of what a command printed, and where it printed it."""

    stream: StreamName
    data: bytes


async def frames(response: httpx.Response) -> AsyncIterator[tuple[bytes, bytes]]:
    """The (kind, payload) of every frame as it comes. Raises CommandError for what is no such stream."""
    rest = bytearray()
    async for data in response.aiter_bytes():
        rest += data
        start = 0
        while len(rest) - start >= _HEAD.size:
            kind, length = _HEAD.unpack_from(rest, start)
            if kind not in (b"s", b"o", b"e", b"k", b"x") or length > MAX_PAYLOAD:
                raise CommandError(
                    "The Hub's stream of the command is not understood; are Hub and SDK of one version?", "bad_stream"
                )
            if len(rest) - start < _HEAD.size + length:
                break
            begin = start + _HEAD.size
            yield kind, bytes(rest[begin : begin + length])
            start = begin + length
        del rest[:start]


class AsyncSandboxProcess:
    """A command that was started by `open_process`, or attached to. An async context manager that ends it.

    Output is read ahead by a megabyte at most, so a command that prints faster than it is read waits. While one of
    `stdout` and `stderr` is read and the other is not, the newest 16 MiB of the other are kept.
    """

    def __init__(
        self, gateway: Gateway, sandbox_id: str, key: str, shown: str, seconds: float | None, linger: float
    ) -> None:
        import asyncio

        self.sandbox_id = sandbox_id
        self.key = key
        self.pid: int | None = None
        self.returncode: int | None = None
        self._gateway = gateway
        self._shown = shown
        self._seconds = seconds
        self._linger = linger
        self._closings = gateway.closings
        self._error: Exception | None = None
        self._over = False
        self._pieces: deque[Output] = deque()
        self._held = 0
        self._hungry = 0
        self._changed = asyncio.Condition()
        self._pumping: asyncio.Task[None] | None = None

    def follow(self, response: httpx.Response) -> None:
        """Begin to read the stream of frames."""
        import asyncio

        self._pumping = asyncio.ensure_future(self._pump(response))

    async def started(self) -> None:
        """Return when it has started. Raises CommandError when it has not."""
        await self._until(lambda: self.pid is not None or self._over, hungry=False)
        if self.pid is None:
            self._raise()

    @property
    def stdout(self) -> AsyncIterator[bytes]:
        """What it prints, as it comes."""
        return self._one("stdout")

    @property
    def stderr(self) -> AsyncIterator[bytes]:
        """Its error output, as it comes."""
        return self._one("stderr")

    async def _one(self, stream: StreamName) -> AsyncIterator[bytes]:
        while (piece := await self._take(stream)) is not None:
            yield piece.data

    async def output(self) -> AsyncIterator[Output]:
        """Both, in the order in which they came."""
        while (piece := await self._take(None)) is not None:
            yield piece

    async def _take(self, stream: StreamName | None) -> Output | None:
        def found() -> int | None:
            return next((at for at, piece in enumerate(self._pieces) if stream in (None, piece.stream)), None)

        await self._until(lambda: found() is not None or self._over)
        at = found()
        if at is None:
            if self._error is not None:
                self._raise()
            return None
        piece = self._pieces[at]
        del self._pieces[at]
        self._held -= len(piece.data)
        async with self._changed:
            self._changed.notify_all()
        return piece

    async def _until(self, condition: Callable[[], bool], hungry: bool = True) -> None:
        if condition():
            return
        async with self._changed:
            self._hungry += hungry
            self._changed.notify_all()
            try:
                await self._changed.wait_for(condition)
            finally:
                self._hungry -= hungry

    async def _pump(self, response: httpx.Response) -> None:
        import asyncio

        try:
            async with asyncio.timeout(None if self._seconds is None else self._seconds + SLACK_SECONDS):
                await self._read(response)
        except TimeoutError:
            self._error = self._late()
        except Exception as error:
            self._error = error
        finally:
            self._over = True
            async with self._changed:
                self._changed.notify_all()

    async def _read(self, response: httpx.Response) -> None:
        import asyncio

        import httpx

        attempt = 0
        while True:
            try:
                async for kind, payload in frames(response):
                    attempt = 0
                    if await self._frame(kind, payload):
                        return
                reason = "it ended without saying how"
            except httpx.HTTPError as error:
                reason = str(error) or type(error).__name__
            finally:
                await response.aclose()
            lost = CommandError(f"Contact with the command was lost ({reason}): {self._shown[:200]}", "contact_lost")
            while True:
                if self._linger <= 0 or attempt >= ATTACH_ATTEMPTS or self._gateway.closings != self._closings:
                    raise lost
                await asyncio.sleep(0.25 * 2**attempt)
                attempt += 1
                try:
                    response = await self._gateway.open(self.sandbox_id, "GET", f"commands/{self.key}", SILENCE_SECONDS)
                    break
                except (APIError, httpx.TimeoutException) as error:
                    if isinstance(error, APIError) and error.status == 404:
                        raise lost from None

    async def _frame(self, kind: bytes, payload: bytes) -> bool:
        """Take one frame in; whether it was the last."""
        if kind in (b"o", b"e"):
            await self._keep(Output("stdout" if kind == b"o" else "stderr", payload))
            return False
        if kind == b"k":
            return False
        content: dict[str, Any] = json.loads(payload)
        if kind == b"s":
            self.pid = int(content.get("pid") or 0)
        else:
            code = content.get("exit_code")
            self.returncode = None if code is None else int(code)
            if code is None:
                self._error = await self._why(str(content.get("error") or ""), content.get("detail"))
        async with self._changed:
            self._changed.notify_all()
        return kind == b"x"

    async def _keep(self, piece: Output) -> None:
        async with self._changed:
            self._pieces.append(piece)
            self._held += len(piece.data)
            while self._held > UNREAD_BYTES and self._pieces:
                self._held -= len(self._pieces.popleft().data)
            self._changed.notify_all()
            await self._changed.wait_for(lambda: self._held < READ_AHEAD_BYTES or self._hungry > 0)

    async def _why(self, word: str, detail: object) -> Exception:
        if word == "command_timeout":
            return self._late()
        if word.startswith("sandbox_"):
            return await self._gateway.ended(self.sandbox_id, str(detail) if detail else None)
        return CommandError(str(detail or f"The command did not end by itself ({word}): {self._shown[:200]}"), word)

    def _late(self) -> CommandTimeoutError:
        seconds = f"{self._seconds:g} seconds" if self._seconds is not None else "its time"
        return CommandTimeoutError(
            f"The command did not end within {seconds} and was killed: {self._shown[:200]}", "command_timeout"
        )

    def _raise(self) -> None:
        raise self._error or CommandError(f"The command never started: {self._shown[:200]}", "not_started")

    async def wait(self, timeout: float | None = None) -> int:
        """Its exit code, once it has ended; 128 and the signal's number when one ended it.

        Raises CommandTimeoutError, CommandError, SandboxNotRunningError, and the built-in TimeoutError when it still
        runs after `timeout` seconds.
        """
        import asyncio

        async with asyncio.timeout(timeout):
            await self._until(lambda: self._over)
        if self.returncode is None:
            self._raise()
        assert self.returncode is not None
        return self.returncode

    async def communicate(self, stdin: bytes | str | None = None) -> tuple[bytes, bytes]:
        """Give it all of its input and the end of it, and return all that it prints, (stdout, stderr), when it ends.

        Raises what `wait` raises.
        """
        import asyncio

        feeding = asyncio.ensure_future(self._feed(stdin))
        try:
            return await self.collect()
        finally:
            feeding.cancel()
            await asyncio.gather(feeding, return_exceptions=True)

    async def collect(self) -> tuple[bytes, bytes]:
        """All that it prints, (stdout, stderr), when it has ended. Raises what `wait` raises."""
        parts: dict[StreamName, list[bytes]] = {"stdout": [], "stderr": []}
        async for piece in self.output():
            parts[piece.stream].append(piece.data)
        await self.wait()
        return b"".join(parts["stdout"]), b"".join(parts["stderr"])

    async def _feed(self, stdin: bytes | str | None) -> None:
        try:
            if stdin:
                await self.write_stdin(stdin)
            await self.close_stdin()
        except (APIError, CommandError):
            pass  # it does not read any more; what it printed and its exit code tell

    async def write_stdin(self, data: bytes | str) -> None:
        """Give it input; returns when it was taken. Raises CommandError when it reads none any more."""
        content = data.encode() if isinstance(data, str) else bytes(data)
        for start in range(0, len(content), INPUT_PIECE):
            await self._input(content[start : start + INPUT_PIECE], eof=False)

    async def close_stdin(self) -> None:
        """Say that there is no more input; nothing when it has ended."""
        await self._input(b"", eof=True)

    async def _input(self, piece: bytes, eof: bool) -> None:
        import asyncio

        # It may take its time, or end without taking it.
        params = {"eof": int(eof), "id": uuid.uuid4().hex}
        giving = asyncio.ensure_future(self._control("POST", "stdin", None, params=params, body=lambda: piece))
        ending = asyncio.ensure_future(self._until(lambda: self._over, hungry=False))
        try:
            await asyncio.wait({giving, ending}, return_when=asyncio.FIRST_COMPLETED)
            if not giving.done() or (eof and self._over):
                if eof:
                    return
                raise CommandError(f"The command has ended and takes no more input: {self._shown[:200]}", "ended")
            giving.result()
        finally:
            for task in (giving, ending):
                task.cancel()
            await asyncio.gather(giving, ending, return_exceptions=True)

    async def resize(self, rows: int, columns: int) -> None:
        """Give its terminal another size. Raises CommandError when it has none."""
        await self._control("POST", "resize", CONTROL_SECONDS, json={"rows": rows, "columns": columns})

    async def send_signal(self, number: int) -> None:
        """Send a signal to it and what it started; nothing when it has ended."""
        if self._over:
            return
        try:
            params = {"id": uuid.uuid4().hex}
            await self._control("POST", "signal", CONTROL_SECONDS, params=params, json={"signal": int(number)})
        except CommandError:
            if not self._over:
                raise

    async def terminate(self) -> None:
        """Ask it to end (SIGTERM)."""
        await self.send_signal(signals.SIGTERM)

    async def kill(self) -> None:
        """End it (SIGKILL)."""
        await self.send_signal(9)

    async def _control(self, method: str, what: str, seconds: float | None, **keywords: Any) -> None:
        import httpx

        operation = f"commands/{self.key}" + (f"/{what}" if what else "")
        try:
            # Each has an id, or does the same when it is done twice.
            await self._gateway.send(self.sandbox_id, method, operation, seconds, repeatable=True, **keywords)
        except httpx.TimeoutException:
            raise CommandError(
                f"The command took no {what or 'end'} in time: {self._shown[:200]}", "no_answer"
            ) from None
        except APIError as error:
            if error.status in (400, 404, 409, 422):
                raise CommandError(error.detail or str(error), "no_such_command") from None
            raise

    async def detach(self) -> None:
        """Let go of it without ending it; it lives on for as long as it was given (`linger`)."""
        await self._let_go()

    async def aclose(self) -> None:
        """End it when it still runs, and let go of it."""
        ended = self._over
        if not ended and self._linger > 0:
            await _quietly(self._control("DELETE", "", CONTROL_SECONDS))
        await self._let_go()

    async def _let_go(self) -> None:
        import asyncio

        if self._pumping is not None:
            self._pumping.cancel()
            await asyncio.gather(self._pumping, return_exceptions=True)
        self._over = True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


async def _quietly(call: Awaitable[object]) -> None:
    from prime_core.errors import PrimeError

    try:
        await call
    except PrimeError:
        pass
