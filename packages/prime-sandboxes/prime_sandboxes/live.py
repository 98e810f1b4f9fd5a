"""A sandbox as an object: made, used, and gone at the end of the block.

async with AsyncSandbox.create("my-env:latest") as box:
    print((await box.run("python --version")).stdout)
"""

from __future__ import annotations

import shlex
from collections.abc import AsyncIterator, Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, Unpack

from prime_sandboxes.client import AsyncSandboxClient
from prime_sandboxes.commands import COMMAND_SECONDS, AsyncCommandStream
from prime_sandboxes.exceptions import CommandFailedError
from prime_sandboxes.models import (
    CommandResponse,
    CreateSandboxRequest,
    EgressPolicyStatus,
    ErrorContext,
    ExposedPort,
    Sandbox,
    SandboxOptions,
    Usage,
)
from prime_sandboxes.process import AsyncSandboxProcess

if TYPE_CHECKING:
    from prime_sandboxes.files import AsyncFiles
    from prime_sandboxes.leases import LeaseKeeper

LEASE_SECONDS = 60.0
START_SECONDS = 300.0


class AsyncSandbox:
    """One sandbox of a Hub. Made by `create`, which `await` or `async with` carry out, or found by `attach`."""

    def __init__(
        self, client: AsyncSandboxClient, request: CreateSandboxRequest | None, sandbox_id: str, owned: bool
    ) -> None:
        self.client = client
        self.info: Sandbox | None = None
        self._request = request
        self._id = sandbox_id
        self._owned_client = owned
        self._wait, self._start_timeout, self._keep = True, START_SECONDS, request is None
        self._keeper: LeaseKeeper | None = None

    @classmethod
    def create(
        cls, image: str, client: AsyncSandboxClient | None = None, **options: Unpack[SandboxOptions]
    ) -> AsyncSandbox:
        """A sandbox of this image, to be awaited or entered; the options are those of `SandboxOptions`.

        Entering raises SandboxNotRunningError and its kinds when it does not start, APIError and its kinds.
        """
        unknown = options.keys() - SandboxOptions.__annotations__.keys()
        if unknown:
            raise TypeError(f"A sandbox has no option {', '.join(sorted(unknown))}.")
        found = cls(client or AsyncSandboxClient(), _request(image, options), "", client is None)
        found._wait = options.get("wait", True)
        found._start_timeout = options.get("start_timeout", START_SECONDS)
        found._keep = options.get("keep", False)
        return found

    @classmethod
    def attach(cls, sandbox_id: str, client: AsyncSandboxClient | None = None) -> AsyncSandbox:
        """A sandbox that is there already; it is not ended at the end of a block."""
        return cls(client or AsyncSandboxClient(), None, sandbox_id, client is None)

    @property
    def id(self) -> str:
        """The sandbox's id. Raises RuntimeError before it is made."""
        if not self._id:
            raise RuntimeError("The sandbox is not made yet; await it, or enter it with 'async with'.")
        return self._id

    async def start(self) -> Self:
        """Make it, when that was not done yet, and wait until it runs."""
        if self._request is None or self._id:
            return self
        try:
            made = await self.client.create(self._request)
            self._id, self.info = made.id, made
            if self._request.lease_seconds is not None:
                self._keeper = self.client.keep_alive(made.id, self._request.lease_seconds)
            if self._wait:
                attempts = 5 + round(max(0.0, self._start_timeout - 5) / 2)
                self.info = await self.client.wait_for_creation(made.id, max_attempts=attempts)
        except BaseException:
            await self._end(quietly=True)
            raise
        return self

    def __await__(self) -> Generator[Any, None, Self]:
        return self.start().__await__()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        await self.aclose(quietly=kind is not None)

    async def aclose(self, *, quietly: bool = False) -> None:
        """End the sandbox, unless it was attached to or is to be kept, and let go of the connections made for it.

        `quietly`: that the Hub could not be told is no error; there is another one to be told of.
        """
        if self._keep:
            await self._let_go()
        else:
            await self._end(quietly)

    async def _end(self, quietly: bool = False) -> None:
        import asyncio

        await asyncio.shield(self._ended(quietly))

    async def _ended(self, quietly: bool) -> None:
        from prime_core.errors import NotFound, PrimeError

        try:
            if self._id:
                await self.client.delete(self._id)
        except PrimeError as error:
            if not quietly and not isinstance(error, NotFound):
                raise
        finally:
            await self._let_go()

    async def _let_go(self) -> None:
        if self._keeper is not None:
            self._keeper.cancel()
        if self._owned_client:
            await self.client.aclose()

    async def delete(self) -> None:
        """End the sandbox now; nothing of it is left when this returns."""
        await self._end()

    async def refresh(self) -> Sandbox:
        """What the Hub knows of it now; also kept as `info`."""
        self.info = await self.client.get(self.id)
        return self.info

    async def run(
        self,
        command: str | Sequence[str],
        *,
        working_dir: str | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float | None = None,
        user: str | None = None,
        stdin: bytes | str | None = None,
        check: bool = False,
    ) -> CommandResponse:
        """Run a command to its end, 300 seconds at most unless told, and return what it printed.

        `command` is a line for the shell, or a list of words. Raises CommandTimeoutError, CommandError,
        SandboxNotRunningError, and with `check` CommandFailedError for an exit code other than 0.
        """
        shown = command if isinstance(command, str) else shlex.join(command)
        if stdin is None and isinstance(command, str):
            done = await self.client.execute_command(self.id, command, working_dir, env, timeout, user)
        else:
            seconds = timeout or COMMAND_SECONDS
            given = stdin is not None
            async with await self.client.open_process(
                self.id, command, working_dir, env, user, timeout=seconds, stdin=given
            ) as process:
                out, err = await process.communicate(stdin) if given else await process.collect()
                code = await process.wait()
            done = CommandResponse(out.decode("utf-8", "replace"), err.decode("utf-8", "replace"), code)
        if check and done.exit_code != 0:
            raise CommandFailedError(shown, done.exit_code, done.stdout, done.stderr)
        return done

    def stream(
        self,
        command: str | Sequence[str],
        working_dir: str | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float | None = None,
        user: str | None = None,
    ) -> AsyncCommandStream:
        """Run a command and iterate over (stream, text) as it prints; see `AsyncSandboxClient.stream`."""
        return self.client.stream(self.id, command, working_dir, env, timeout, user)

    async def process(
        self,
        command: str | Sequence[str],
        working_dir: str | None = None,
        env: Mapping[str, str] | None = None,
        user: str | None = None,
        *,
        timeout: float | None = None,
        stdin: bool = True,
        pty: tuple[int, int] | None = None,
        linger: float = 0.0,
    ) -> AsyncSandboxProcess:
        """Start a command and hold on to it; see `AsyncSandboxClient.open_process`."""
        return await self.client.open_process(
            self.id, command, working_dir, env, user, timeout=timeout, stdin=stdin, pty=pty, linger=linger
        )

    @property
    def files(self) -> AsyncFiles:
        """Its files."""
        return self.client.files(self.id)

    async def expose(self, port: int, name: str | None = None, protocol: str = "HTTP") -> ExposedPort:
        """Make a port reachable; `url` and `external_endpoint` of the answer say where."""
        return await self.client.expose(self.id, port, name, protocol)

    async def logs(self) -> str:
        """The end of what its start command has printed."""
        return await self.client.get_logs(self.id)

    def follow_logs(self, lines: int | None = None) -> AsyncIterator[str]:
        """What its start command has printed (the end of it, or only so many of its last `lines`) and what it prints, as
        it comes, until it has ended.
        """
        return self.client.follow_logs(self.id, lines)

    async def usage(self) -> Usage:
        """What it uses of its machine now."""
        return await self.client.usage(self.id)

    async def error_context(self) -> ErrorContext:
        """Why it ended, and its last output."""
        return await self.client.error_context(self.id)

    async def get_network(self) -> EgressPolicyStatus:
        """Where it may connect to."""
        return await self.client.get_network(self.id)

    async def set_network(
        self, *, allow: Sequence[str] | None = None, deny: Sequence[str] | None = None
    ) -> EgressPolicyStatus:
        """Change where it may connect to; see `AsyncSandboxClient.set_network`."""
        return await self.client.set_network(self.id, allow=allow, deny=deny)

    async def renew(self, lease_seconds: float) -> str | None:
        """Let its lease run so long from now."""
        return await self.client.renew(self.id, lease_seconds)


def _request(image: str, options: SandboxOptions) -> CreateSandboxRequest:
    allow = options.get("network")
    secrets = options.get("secrets")
    env = options.get("env")
    name = options.get("name") or image.rpartition("/")[2].partition(":")[0] or "sandbox"
    return CreateSandboxRequest(
        name=name,
        docker_image=image,
        start_command=options.get("start_command"),
        cpu_cores=options.get("cpus", 1.0),
        memory_gb=options.get("memory_gb", 1.0),
        disk_size_gb=options.get("disk_gb", 5.0),
        timeout_minutes=options.get("timeout_minutes", 60),
        idle_timeout_minutes=options.get("idle_minutes"),
        environment_vars={**env} if env else None,
        secrets={**secrets} if secrets else None,
        labels=[*options.get("labels", ())],
        lease_seconds=options.get("lease_seconds", LEASE_SECONDS),
        image_digest=options.get("image_digest"),
        team_id=options.get("team_id"),
        port=options.get("port"),
        network_allowlist=None if allow is None else [*allow],
    )
