"""SandboxEnv: every rollout has a sandbox of its own, in which the model runs shell commands."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypedDict

from verifiers.decorators import cleanup, teardown
from verifiers.envs.sandbox_images import Images, SandboxCreationError
from verifiers.envs.stateful_tool_env import StatefulToolEnv
from verifiers.errors import SandboxError, typed
from verifiers.openenv.sandbox import CANCEL_SECONDS, Patience, default_lease_seconds, may_pass, sentence_of
from verifiers.rubrics.rubric import Rubric
from verifiers.types import Messages, State
from verifiers.utils.async_utils import maybe_await

if TYPE_CHECKING:
    from prime_sandboxes import AsyncSandboxClient, CreateSandboxRequest, LeaseKeeper, Sandbox

CONNECTIONS = 10_000
"""More than rollouts at once: a Python session holds one."""
MISSING = "{name} requires prime-sandboxes. Install with: uv add prime-sandboxes (the extra verifiers[sandbox])"


class SandboxNotReadyError(SandboxError):
    """The sandbox did not start."""


class SandboxState(TypedDict):
    """`state["sandbox_state"]`: whether it runs, how long the rollout waited for that, and each command's seconds."""

    ready: bool
    ready_wait_time: float
    command_execution_times: list[float]


def sandbox_ready_wait_time(state: State) -> float:
    """Seconds that the rollout waited for its sandbox to run."""
    return float((state.get("sandbox_state") or {}).get("ready_wait_time", 0.0))


def sandbox_command_execution_time(state: State) -> float:
    """Mean of the seconds that the rollout's commands took; 0.0 without commands."""
    times = (state.get("sandbox_state") or {}).get("command_execution_times") or ()
    return sum(times) / len(times) if times else 0.0


class SandboxEnv(StatefulToolEnv):
    """Gives the model the tool `bash` in a sandbox of the Hub that the configuration names.

    `setup_state` asks for the sandbox, and the first command waits until it runs, so it starts while the model thinks.
    It is deleted when the rollout is over, however that ended, and by its lease (PRIME_LEASE_SECONDS, 60) when this
    process dies. A sandbox that fails is `state["error"]`: the rollout is unscored and may be retried.

    docker_image: an image of the Hub, or one of a registry where the Hub's runtime takes those. A Hub that does not have
        a Python base image (`python:3.11-slim`) makes it from the Dockerfile `FROM python:3.11-slim`.
    cpu_cores, memory_gb, disk_size_gb, gpu_count, timeout_minutes, environment_vars, team_id, advanced_configs, labels:
        go into each request; override `get_sandbox_request` for what depends on the row.
    timeout_per_command_seconds: a command that takes longer is killed, and the model told.
    wait_for_creation_max_attempts: as `AsyncSandboxClient.wait_for_creation` counts them; 120 are about four minutes.
    max_retries, base_delay, backoff_factor, max_backoff_seconds, jitter: how patiently a sandbox is asked for (seconds).
    sandbox_client_max_workers and its kin of the official signature bound a pool of threads that is not there: all
        sandboxes of an environment share one asynchronous client, so these are only kept as attributes.

    Tools of subclasses get the sandbox by hidden arguments: `self.add_tool(self.look, args_to_skip=["sandbox_id"])`.
    Raises ImportError without the SDK.
    """

    def __init__(
        self,
        sandbox_name: str = "sandbox-env",
        docker_image: str = "python:3.11-slim",
        start_command: str = "tail -f /dev/null",
        cpu_cores: float = 1,
        memory_gb: float = 2,
        disk_size_gb: float = 5,
        gpu_count: int = 0,
        timeout_minutes: int = 60,
        timeout_per_command_seconds: float = 30,
        environment_vars: Mapping[str, str] | None = None,
        team_id: str | None = None,
        advanced_configs: Mapping[str, Any] | None = None,
        labels: Sequence[str] | None = None,
        wait_for_creation_max_attempts: int = 120,
        max_retries: int = 5,
        base_delay: float = 0.5,
        backoff_factor: float = 2.0,
        max_backoff_seconds: float = 30.0,
        jitter: float = 1e-3,
        stop_errors: Sequence[type[Exception]] | None = None,
        **kwargs: Any,
    ) -> None:
        if importlib.util.find_spec("prime_sandboxes") is None:
            raise ImportError(MISSING.format(name=type(self).__name__))
        from prime_sandboxes import CreateSandboxRequest

        super().__init__(stop_errors=[SandboxError] if stop_errors is None else stop_errors, **kwargs)
        self.timeout_per_command_seconds = timeout_per_command_seconds
        self.sandbox_request = CreateSandboxRequest(
            name=sandbox_name,
            docker_image=docker_image,
            start_command=start_command,
            cpu_cores=cpu_cores,
            memory_gb=memory_gb,
            disk_size_gb=disk_size_gb,
            gpu_count=gpu_count,
            timeout_minutes=timeout_minutes,
            environment_vars=dict(environment_vars) if environment_vars else None,
            team_id=team_id,
            advanced_configs=dict(advanced_configs) if advanced_configs else None,
            labels=list(labels or ()),
            lease_seconds=default_lease_seconds(),
        )
        self._patience = Patience(
            wait_attempts=wait_for_creation_max_attempts,
            retries=max_retries,
            base_delay=base_delay,
            backoff_factor=backoff_factor,
            max_backoff=max_backoff_seconds,
            jitter=jitter,
        )
        self._images = Images()
        self._client: AsyncSandboxClient | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._sandboxes: dict[str, LeaseKeeper] = {}
        self._awaited: set[str] = set()
        self.add_rubric(Rubric(funcs=[sandbox_ready_wait_time, sandbox_command_execution_time], weights=[0.0, 0.0]))
        self.add_tool(self.bash, args_to_skip=["sandbox_id", "sandbox_state", "working_dir"])

    # What a subclass overrides

    def get_sandbox_request(self, state: State) -> Any:
        """The request for this rollout's sandbox, a `CreateSandboxRequest`; sync or async. Here: the same for all."""
        return replace(self.sandbox_request)

    async def post_rollout(self, state: State) -> None:
        """Called when the rollout is over and its sandbox still runs: to fetch or test what the model has made.

        What it raises ends in `state["error"]`, unscored: a grader that failed says nothing about the model. Not called
        when the run is cancelled.
        """

    # The rollout's sandbox

    @property
    def sandbox_client(self) -> AsyncSandboxClient:
        """The SDK's client for the running event loop."""
        from prime_sandboxes import AsyncSandboxClient

        loop = asyncio.get_running_loop()
        if self._client is None or self._loop is not loop:
            self._client, self._loop = AsyncSandboxClient(max_connections=CONNECTIONS), loop
        return self._client

    async def setup_state(self, state: State, **kwargs: Any) -> State:
        """Ask for the sandbox: `state["sandbox_id"]`, `state["sandbox_state"]`. Raises SandboxCreationError."""
        await super().setup_state(state)
        state["sandbox_id"] = None
        state["sandbox_state"] = SandboxState(ready=False, ready_wait_time=0.0, command_execution_times=[])
        request: CreateSandboxRequest = await maybe_await(self.get_sandbox_request(state))
        request = replace(
            await self._with_image(request, state),
            lease_seconds=request.lease_seconds or default_lease_seconds(),
            idempotency_key=uuid.uuid4().hex,
        )
        sandbox = await self._created(request)
        self._sandboxes[sandbox.id] = self.sandbox_client.keep_alive(sandbox.id, request.lease_seconds or 0.0)
        state["sandbox_id"] = sandbox.id
        return state

    async def _with_image(self, request: CreateSandboxRequest, state: State) -> CreateSandboxRequest:
        return request

    async def _created(self, request: CreateSandboxRequest) -> Sandbox:
        client = self.sandbox_client
        creating = asyncio.ensure_future(self._asked_for(client, request))
        try:
            return await asyncio.shield(creating)
        except asyncio.CancelledError:
            # The Hub may have heard it already: what it makes is ended here, or else with its lease.
            with contextlib.suppress(Exception, asyncio.CancelledError):
                await client.delete((await asyncio.wait_for(creating, CANCEL_SECONDS)).id)
            raise

    async def _asked_for(self, client: AsyncSandboxClient, request: CreateSandboxRequest) -> Sandbox:
        from prime_core.errors import NotFound

        attempt = 0
        while True:
            try:
                return await client.create(request)
            except Exception as error:
                missing = isinstance(error, NotFound) and error.code == "image_not_found" and not request.image_digest
                if missing and (base := self._images.base(request.docker_image)) is not None:
                    built = await self._images.built(base, request.team_id)
                    request = replace(request, docker_image=built.image, image_digest=built.digest)
                    continue
                if attempt == self._patience.retries or not may_pass(error):
                    raise SandboxCreationError(
                        f"Failed to create a sandbox of image {request.docker_image}. {sentence_of(error)}"
                    ) from error
            await asyncio.sleep(self._patience.delay(attempt))
            attempt += 1

    async def _wait_for_sandbox_ready(self, sandbox_state: SandboxState, sandbox_id: str) -> None:
        """Return when the sandbox runs. Raises SandboxNotReadyError."""
        if sandbox_state["ready"]:
            return
        begun = time.monotonic()
        self._awaited.add(sandbox_id)
        try:
            await self.sandbox_client.wait_for_creation(sandbox_id, max_attempts=self._patience.wait_attempts)
        except Exception as error:
            raise SandboxNotReadyError(f"Sandbox {sandbox_id} did not start. {sentence_of(error)}") from error
        finally:
            sandbox_state["ready_wait_time"] += time.monotonic() - begun
        self._awaited.discard(sandbox_id)
        sandbox_state["ready"] = True

    async def bash(
        self, command: str, sandbox_id: str, sandbox_state: SandboxState, working_dir: str | None = None
    ) -> str:
        """Run a shell command in the sandbox and return what it printed.

        Args:
            command: the command line, run by bash
        """
        from prime_core.errors import PrimeError
        from prime_sandboxes import CommandError, CommandTimeoutError

        await self._wait_for_sandbox_ready(sandbox_state, sandbox_id)
        begun, seconds = time.monotonic(), self.timeout_per_command_seconds
        try:
            done = await self.sandbox_client.execute_command(sandbox_id, command, working_dir, timeout=seconds)
        except CommandTimeoutError:
            return f"Error: Command timed out after {seconds:g}s"
        except PrimeError as error:
            if isinstance(error, CommandError) and error.error == "refused":
                return f"Error: {error}"
            raise SandboxError(f"A command in sandbox {sandbox_id} failed. {sentence_of(error)}") from error
        finally:
            sandbox_state["command_execution_times"].append(time.monotonic() - begun)
        return printed(done.stdout, done.stderr)

    def update_tool_args(
        self, tool_name: str, tool_args: dict[str, Any], messages: Messages, state: State, **kwargs: Any
    ) -> dict[str, Any]:
        """Puts `sandbox_id` and `sandbox_state` into the calls of the tools that hide them, `working_dir` into `bash`."""
        hidden = self._hidden.get(tool_name, frozenset())
        given = {name: state[name] for name in ("sandbox_id", "sandbox_state") if name in hidden}
        if "working_dir" in hidden and "working_dir" in state:
            given["working_dir"] = state["working_dir"]
        return {**tool_args, **given}

    # Its end

    @cleanup(priority=150)
    async def blame_no_model_for_waiting(self, state: State) -> None:
        """A rollout whose time was over while it waited for its sandbox says nothing about the model."""
        waited = not state["timing"].setup.end or state.get("sandbox_id") in self._awaited
        if state.get("timed_out") and waited and state["error"] is None:
            state["error"] = SandboxNotReadyError(
                f"The sandbox did not run after {self.timeout_seconds:g} s (timeout_seconds). "
                "Run fewer rollouts at once, or allow more time."
            )

    @cleanup(priority=-100)
    async def destroy_sandbox(self, state: State) -> None:
        """`post_rollout`, then the end of the sandbox; after every other cleanup of the rollout."""
        sandbox_id = state.get("sandbox_id")
        if sandbox_id is None or sandbox_id not in self._sandboxes:
            return
        task = asyncio.current_task()
        try:
            if not (task is not None and task.cancelling()) and sandbox_id not in self._awaited:
                await self._after(state, sandbox_id)
        finally:
            self._awaited.discard(sandbox_id)
            await asyncio.shield(self._end(sandbox_id))

    async def _after(self, state: State, sandbox_id: str) -> None:
        if type(self).post_rollout is SandboxEnv.post_rollout:
            return
        try:
            await self._wait_for_sandbox_ready(state["sandbox_state"], sandbox_id)
            await self.post_rollout(state)
        except Exception as error:
            state["error"] = state["error"] or typed(error)

    async def _end(self, sandbox_id: str) -> None:
        from prime_core.errors import NotFound

        if (keeper := self._sandboxes.get(sandbox_id)) is not None:
            keeper.cancel()
        try:
            await self.sandbox_client.delete(sandbox_id)
        except NotFound:
            pass
        except Exception as error:
            self.logger.warning("Sandbox %s is left to end with its lease: %s", sandbox_id, sentence_of(error))
            return  # asked for again at the end of the run
        self._sandboxes.pop(sandbox_id, None)

    @teardown
    async def teardown_sandboxes(self) -> None:
        """Delete what is left, and let go of the connections."""
        await self._images.stop()
        await asyncio.gather(*(self._end(sandbox_id) for sandbox_id in list(self._sandboxes)))
        self._sandboxes.clear()
        client, self._client = self._client, None
        if client is not None and self._loop is asyncio.get_running_loop():
            await client.aclose()
        elif client is not None:
            client.stop_renewals()


def printed(stdout: str, stderr: str, *more: str) -> str:
    """What a command printed, as the model reads it."""
    parts = [stdout.rstrip(), f"stderr:\n{stderr.rstrip()}" if stderr.strip() else "", *more]
    return "\n".join(part for part in parts if part) or "(no output)"
