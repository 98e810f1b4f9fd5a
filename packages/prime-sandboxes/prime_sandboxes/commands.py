"""Commands in sandboxes: run to the end, streamed, or held as a process. The part of AsyncSandboxClient about them."""

from __future__ import annotations

import codecs
import contextlib
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from prime_sandboxes.exceptions import APIError, CommandError, CommandTimeoutError
from prime_sandboxes.models import CommandInfo, CommandResponse
from prime_sandboxes.process import SILENCE_SECONDS, SLACK_SECONDS, AsyncSandboxProcess, StreamName

if TYPE_CHECKING:
    import asyncio

    from prime_sandboxes.gateway import Gateway

COMMAND_SECONDS = 300.0
CONTROL_SECONDS = 30.0
SHELL = ("/bin/bash", "-c")  # the Hub takes /bin/sh where an image has no bash
_REFUSED = frozenset({400, 403, 404, 409, 422})


class Printed(NamedTuple):
    """A piece of what a command printed, as text, and where it printed it."""

    stream: StreamName
    text: str


class AsyncCommandStream(AsyncIterator[Printed]):
    """What a command prints, as (stream, text), while it runs; begun when the first piece is asked for.

    `exit_code` is there after the last piece. `aclose()`, the end of an `async with` block, or leaving the loop over it
    ends the command.
    """

    def __init__(self, start: Callable[[], Coroutine[Any, Any, AsyncSandboxProcess]]) -> None:
        self._start = start
        self._process: AsyncSandboxProcess | None = None
        self._decoders = {name: _decoder() for name in ("stdout", "stderr")}
        self._output: AsyncIterator[Any] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.exit_code: int | None = None

    async def __anext__(self) -> Printed:
        if self._process is None or self._output is None:
            import asyncio

            self._loop = asyncio.get_running_loop()
            self._process = await self._start()
            self._output = self._process.output()
        async for piece in self._output:
            text = self._decoders[piece.stream].decode(piece.data)
            if text:
                return Printed(piece.stream, text)
        for name in ("stdout", "stderr"):
            rest = self._decoders[name].decode(b"", final=True)
            if rest:
                return Printed(name, rest)
        if self.exit_code is None:
            self.exit_code = await self._process.wait()
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """End the command when it still runs."""
        if self._process is not None:
            await self._process.aclose()

    def __del__(self) -> None:
        # A loop that was left with `break`: its command is not kept running for nobody.
        if self._process is None or self._loop is None or self.exit_code is not None:
            return
        process, loop = self._process, self._loop
        with contextlib.suppress(RuntimeError):  # the event loop has ended
            loop.call_soon_threadsafe(lambda: loop.create_task(process.aclose()))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


def _decoder() -> codecs.IncrementalDecoder:
    return codecs.getincrementaldecoder("utf-8")("replace")


class CommandCalls:
    """Running commands."""

    _gateway: Gateway

    async def execute_command(
        self,
        sandbox_id: str,
        command: str,
        working_dir: str | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float | None = None,
        user: str | None = None,
    ) -> CommandResponse:
        """Run a shell command to its end, in 300 seconds at most unless told, and return what it printed.

        `user` None is the one that the sandbox's server runs as. Never run twice: when contact is lost, that is an error.
        Raises CommandTimeoutError, CommandError, SandboxNotRunningError.
        """
        import httpx

        from prime_core.errors import Unreachable

        seconds = timeout or COMMAND_SECONDS
        body: dict[str, Any] = {
            "command": command,
            "working_dir": working_dir,
            "env": {**(env or {})},
            "sandbox_id": sandbox_id,
            "timeout": seconds,
        }
        if user is not None:
            body["user"] = user
        late = CommandTimeoutError(
            f"The command did not end within {seconds:g} seconds and was killed: {command[:200]}", "command_timeout"
        )
        try:
            answer = await self._gateway.json(sandbox_id, "POST", "exec", seconds + SLACK_SECONDS, json=body)
        except httpx.TimeoutException:
            raise late from None
        except Unreachable as error:
            raise CommandError(
                f"{error} The command may have begun, so it was not run again: {command[:200]}", "contact_lost"
            ) from None
        except APIError as error:
            if error.status == 408:
                raise late from None
            raise _about_command(error) from None
        return CommandResponse.from_wire(answer)

    def stream(
        self,
        sandbox_id: str,
        command: str | Sequence[str],
        working_dir: str | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float | None = None,
        user: str | None = None,
    ) -> AsyncCommandStream:
        """Run a command and iterate over (stream, text) as it prints; `exit_code` of the iterator is there at the end.

        `command` is a line for the shell, or a list of words for none. 300 seconds at most unless told. Raises, from the
        iterator, CommandTimeoutError, CommandError, SandboxNotRunningError.
        """
        seconds = timeout or COMMAND_SECONDS
        return AsyncCommandStream(
            lambda: self.open_process(sandbox_id, command, working_dir, env, user, timeout=seconds, stdin=False)
        )

    async def open_process(
        self,
        sandbox_id: str,
        command: str | Sequence[str],
        working_dir: str | None = None,
        env: Mapping[str, str] | None = None,
        user: str | None = None,
        *,
        timeout: float | None = None,
        stdin: bool = True,
        pty: tuple[int, int] | None = None,
        linger: float = 0.0,
        key: str | None = None,
    ) -> AsyncSandboxProcess:
        """Start a command and hold on to it: its output, its input, its end.

        `command` is a line for the shell, or a list of words for none. `timeout` None lets it run for as long as its
        sandbox does. `pty` (rows, columns) gives it a terminal; its output is then all stdout. It is ended `linger`
        seconds after its last listener has gone; within those, a broken connection is mended (output of the gap is
        lost) and `attach` finds it by its `key`. The same `key` again never starts it twice.

        Raises CommandError when it cannot be started, SandboxNotRunningError.
        """
        import httpx

        argv = [*SHELL, command] if isinstance(command, str) else [*command]
        shown = command if isinstance(command, str) else " ".join(argv)
        process = AsyncSandboxProcess(self._gateway, sandbox_id, key or uuid.uuid4().hex, shown, timeout, linger)
        body = {
            "key": process.key,
            "argv": argv,
            "working_dir": working_dir,
            "env": {**(env or {})},
            "user": user,
            "stdin": stdin,
            "pty": [*pty] if pty else None,
            "timeout": timeout,
            "linger": linger,
        }
        given = {name: value for name, value in body.items() if value is not None}
        try:
            # Its key makes it the same command, however often it is asked for.
            response = await self._gateway.open(
                sandbox_id, "POST", "commands", SILENCE_SECONDS, json=given, repeatable=True
            )
        except httpx.TimeoutException:
            raise CommandError(f"The command did not start within {SILENCE_SECONDS:g} seconds: {shown[:200]}") from None
        except APIError as error:
            raise _about_command(error) from None
        return await _followed(process, response)

    async def attach(self, sandbox_id: str, key: str) -> AsyncSandboxProcess:
        """A command that was started with this `key` and runs, or has ended a moment ago; its output from now on.

        Raises CommandError when there is none.
        """
        import httpx

        process = AsyncSandboxProcess(self._gateway, sandbox_id, key, key, None, SILENCE_SECONDS)
        try:
            response = await self._gateway.open(sandbox_id, "GET", f"commands/{key}", SILENCE_SECONDS)
        except httpx.TimeoutException:
            raise CommandError(f"The sandbox did not answer within {SILENCE_SECONDS:g} seconds.") from None
        except APIError as error:
            raise _about_command(error) from None
        return await _followed(process, response)

    async def list_commands(self, sandbox_id: str) -> list[CommandInfo]:
        """The commands that run in a sandbox, and those that ended a moment ago."""
        answer = await self._gateway.json(sandbox_id, "GET", "commands", CONTROL_SECONDS)
        return [CommandInfo.from_wire(item) for item in answer.get("commands", [])]


async def _followed(process: AsyncSandboxProcess, response: Any) -> AsyncSandboxProcess:
    process.follow(response)
    try:
        await process.started()
    except BaseException:
        await process.aclose()
        raise
    return process


def _about_command(error: APIError) -> Exception:
    if error.status in _REFUSED and error.detail:
        return CommandError(error.detail, "refused")
    return error
