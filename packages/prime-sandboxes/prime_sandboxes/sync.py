"""The clients for programs without asyncio: the calls of the async ones without `await`, taken over one by one.

What each call does, takes, gives and raises stands there. All are context managers, and usable from threads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self, Unpack

from prime_sandboxes.blocking import Driven, Loop, Stream, blocking, direct, iterating, wrapping
from prime_sandboxes.client import AsyncSandboxClient
from prime_sandboxes.commands import AsyncCommandStream, Printed
from prime_sandboxes.files import AsyncFiles
from prime_sandboxes.images import AsyncImageClient
from prime_sandboxes.live import AsyncSandbox
from prime_sandboxes.models import Sandbox, SandboxOptions
from prime_sandboxes.process import AsyncSandboxProcess

if TYPE_CHECKING:
    from prime_core.connection import Connection
    from prime_sandboxes.transport import APIClient


class SandboxProcess(Driven[AsyncSandboxProcess]):
    """A command that was started by `open_process`, or attached to. A context manager that ends it."""

    @property
    def sandbox_id(self) -> str:
        """Where it runs."""
        return self._twin.sandbox_id

    @property
    def key(self) -> str:
        """By which `attach` finds it."""
        return self._twin.key

    @property
    def pid(self) -> int | None:
        """Its process number."""
        return self._twin.pid

    @property
    def returncode(self) -> int | None:
        """Its exit code, None while it runs."""
        return self._twin.returncode

    @property
    def stdout(self) -> Stream[bytes]:
        """What it prints, as it comes."""
        return Stream(self._twin.stdout, self._loop)

    @property
    def stderr(self) -> Stream[bytes]:
        """Its error output, as it comes."""
        return Stream(self._twin.stderr, self._loop)

    output = iterating(AsyncSandboxProcess.output)
    wait = blocking(AsyncSandboxProcess.wait)
    communicate = blocking(AsyncSandboxProcess.communicate)
    collect = blocking(AsyncSandboxProcess.collect)
    write_stdin = blocking(AsyncSandboxProcess.write_stdin)
    close_stdin = blocking(AsyncSandboxProcess.close_stdin)
    resize = blocking(AsyncSandboxProcess.resize)
    send_signal = blocking(AsyncSandboxProcess.send_signal)
    terminate = blocking(AsyncSandboxProcess.terminate)
    kill = blocking(AsyncSandboxProcess.kill)
    detach = blocking(AsyncSandboxProcess.detach)
    close = blocking(AsyncSandboxProcess.aclose)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class CommandStream(Stream[Printed]):
    """What a command prints, as (stream, text), while it runs. `close()`, or the end of a `with` block, ends it."""

    _iterator: AsyncCommandStream

    @property
    def exit_code(self) -> int | None:
        """Its exit code, after the last piece."""
        return self._iterator.exit_code


class Files(Driven[AsyncFiles]):
    """The files of one sandbox."""

    @property
    def sandbox_id(self) -> str:
        """Whose files."""
        return self._twin.sandbox_id

    stat = blocking(AsyncFiles.stat)
    exists = blocking(AsyncFiles.exists)
    list = blocking(AsyncFiles.list)
    make_folder = blocking(AsyncFiles.make_folder)
    remove = blocking(AsyncFiles.remove)
    read = blocking(AsyncFiles.read)
    read_text = blocking(AsyncFiles.read_text)
    write = blocking(AsyncFiles.write)
    upload = blocking(AsyncFiles.upload)
    download = blocking(AsyncFiles.download)


class SandboxClient(Driven[AsyncSandboxClient]):
    """Sandboxes of a Hub: the calls of AsyncSandboxClient without `await`."""

    def __init__(
        self,
        connection: Connection | APIClient | str | None = None,
        max_connections: int = 1000,
        *,
        api_key: str | None = None,
    ) -> None:
        twin = AsyncSandboxClient(connection, max_connections, api_key=api_key)
        super().__init__(twin, Loop(twin._transport.aclose))

    create = blocking(AsyncSandboxClient.create)
    get = blocking(AsyncSandboxClient.get)
    list = blocking(AsyncSandboxClient.list)
    get_sandbox_statuses = blocking(AsyncSandboxClient.get_sandbox_statuses)
    wait_for_creation = blocking(AsyncSandboxClient.wait_for_creation)
    bulk_wait_for_creation = blocking(AsyncSandboxClient.bulk_wait_for_creation)
    error_context = blocking(AsyncSandboxClient.error_context)
    delete = blocking(AsyncSandboxClient.delete)
    bulk_delete = blocking(AsyncSandboxClient.bulk_delete)
    renew = blocking(AsyncSandboxClient.renew)
    keep_alive = direct(AsyncSandboxClient.keep_alive)
    stop_renewals = direct(AsyncSandboxClient.stop_renewals)
    get_logs = blocking(AsyncSandboxClient.get_logs)
    follow_logs = iterating(AsyncSandboxClient.follow_logs)
    expose = blocking(AsyncSandboxClient.expose)
    unexpose = blocking(AsyncSandboxClient.unexpose)
    list_exposed_ports = blocking(AsyncSandboxClient.list_exposed_ports)
    list_all_exposed_ports = blocking(AsyncSandboxClient.list_all_exposed_ports)
    get_network = blocking(AsyncSandboxClient.get_network)
    set_network = blocking(AsyncSandboxClient.set_network)
    capacity = blocking(AsyncSandboxClient.capacity)
    usage = blocking(AsyncSandboxClient.usage)

    execute_command = blocking(AsyncSandboxClient.execute_command)
    stream = iterating(AsyncSandboxClient.stream, CommandStream)
    open_process = wrapping(AsyncSandboxClient.open_process, SandboxProcess)
    attach = wrapping(AsyncSandboxClient.attach, SandboxProcess)
    list_commands = blocking(AsyncSandboxClient.list_commands)

    start_background_job = blocking(AsyncSandboxClient.start_background_job)
    get_background_job = blocking(AsyncSandboxClient.get_background_job)
    get_background_job_status = blocking(AsyncSandboxClient.get_background_job_status)
    get_background_jobs = blocking(AsyncSandboxClient.get_background_jobs)
    wait_for_background_job = blocking(AsyncSandboxClient.wait_for_background_job)
    run_background_job = blocking(AsyncSandboxClient.run_background_job)
    stop_background_job = blocking(AsyncSandboxClient.stop_background_job)

    upload_file = blocking(AsyncSandboxClient.upload_file)
    upload_bytes = blocking(AsyncSandboxClient.upload_bytes)
    download_file = blocking(AsyncSandboxClient.download_file)
    read_file = blocking(AsyncSandboxClient.read_file)

    def files(self, sandbox_id: str) -> Files:
        """All that can be done with the files of a sandbox."""
        return Files(self._twin.files(sandbox_id), self._loop)

    def close(self) -> None:
        """End connections, renewals and the thread. The client can be used again."""
        self._twin.stop_renewals()
        self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class RunningSandbox(Driven[AsyncSandbox]):
    """One sandbox of a Hub, made by `Sandbox.create` or found by `Sandbox.attach`; at the end of a `with` block it ends."""

    def __init__(self, twin: AsyncSandbox, client: SandboxClient, owned: bool) -> None:
        super().__init__(twin, client._loop)
        self.client = client
        self._owned = owned

    @classmethod
    def create(
        cls, image: str, client: SandboxClient | None = None, **options: Unpack[SandboxOptions]
    ) -> RunningSandbox:
        """Start a sandbox and wait until it runs; see `Sandbox.create`."""
        with_client = client or SandboxClient()
        found = cls(AsyncSandbox.create(image, with_client._twin, **options), with_client, client is None)
        try:
            found._loop.run(found._twin.start())
        except BaseException:
            found._let_go()
            raise
        return found

    @classmethod
    def attach(cls, sandbox_id: str, client: SandboxClient | None = None) -> RunningSandbox:
        """A sandbox that is there already; it is not ended at the end of a block."""
        with_client = client or SandboxClient()
        return cls(AsyncSandbox.attach(sandbox_id, with_client._twin), with_client, client is None)

    @property
    def id(self) -> str:
        """The sandbox's id."""
        return self._twin.id

    @property
    def info(self) -> Sandbox | None:
        """What the Hub last said of it."""
        return self._twin.info

    @property
    def files(self) -> Files:
        """Its files."""
        return Files(self._twin.files, self._loop)

    refresh = blocking(AsyncSandbox.refresh)
    run = blocking(AsyncSandbox.run)
    stream = iterating(AsyncSandbox.stream, CommandStream)
    process = wrapping(AsyncSandbox.process, SandboxProcess)
    expose = blocking(AsyncSandbox.expose)
    logs = blocking(AsyncSandbox.logs)
    follow_logs = iterating(AsyncSandbox.follow_logs)
    usage = blocking(AsyncSandbox.usage)
    error_context = blocking(AsyncSandbox.error_context)
    get_network = blocking(AsyncSandbox.get_network)
    set_network = blocking(AsyncSandbox.set_network)
    renew = blocking(AsyncSandbox.renew)
    delete = blocking(AsyncSandbox.delete)

    def close(self, *, quietly: bool = False) -> None:
        """End the sandbox, unless it was attached to or is to be kept, and let go of the connections made for it.

        `quietly`: that the Hub could not be told is no error; there is another one to be told of.
        """
        try:
            self._loop.run(self._twin.aclose(quietly=quietly))
        finally:
            self._let_go()

    def _let_go(self) -> None:
        if self._owned:
            self.client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close(quietly=kind is not None)


class ImageClient(Driven[AsyncImageClient]):
    """Images of a Hub: the calls of AsyncImageClient without `await`. `on_log` of a build is called from another thread."""

    def __init__(self, connection: Connection | APIClient | None = None, *, api_key: str | None = None) -> None:
        twin = AsyncImageClient(connection, api_key=api_key)
        super().__init__(twin, Loop(twin._transport.aclose))

    build = blocking(AsyncImageClient.build)
    start_build = blocking(AsyncImageClient.start_build)
    start_copy = blocking(AsyncImageClient.start_copy)
    get_build = blocking(AsyncImageClient.get_build)
    build_log = blocking(AsyncImageClient.build_log)
    wait_for_build = blocking(AsyncImageClient.wait_for_build)
    cancel = blocking(AsyncImageClient.cancel)
    list = blocking(AsyncImageClient.list)
    get = blocking(AsyncImageClient.get)
    delete = blocking(AsyncImageClient.delete)
    set_visibility = blocking(AsyncImageClient.set_visibility)
    transfer = blocking(AsyncImageClient.transfer)

    def close(self) -> None:
        """End connections and the thread. The client can be used again."""
        self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
