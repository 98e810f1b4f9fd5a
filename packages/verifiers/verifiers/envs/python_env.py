"""PythonEnv: a Python session in the rollout's sandbox, whose variables last from call to call."""

from __future__ import annotations

import asyncio
import json
import shlex
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from prime_core.errors import PrimeError
from verifiers.envs.sandbox_env import SandboxEnv, SandboxState, printed
from verifiers.errors import SandboxError
from verifiers.openenv.sandbox import sentence_of
from verifiers.rubrics.rubric import Rubric
from verifiers.types import Messages, State

if TYPE_CHECKING:
    from prime_sandboxes import AsyncSandboxProcess, CreateSandboxRequest

INSTALL_SECONDS = 600.0
LINGER_SECONDS = 60.0
NEW_SESSION = "Its variables are lost; the next call has a new session."
WORKER = (Path(__file__).parent / "python_worker.py").read_text(encoding="utf-8")
LIBRARY = "$HOME/.python-env"
FIND = 'python=$(command -v python || command -v python3) || { echo "there is no Python in it" >&2; exit 127; }\n'
# An environment without pip still has the wheel of one that Python comes with, which runs as it is.
INSTALL = (
    FIND
    + f"""
"$python" -m pip --version > /dev/null 2>&1 || export PYTHONPATH="$("$python" -c '
import ensurepip, pathlib
print(*pathlib.Path(ensurepip.__file__).parent.glob("_bundled/pip-*.whl"))')"
exec "$python" -m pip install -q --disable-pip-version-check --no-input --target "{LIBRARY}" """
)
START = FIND + f'PYTHONPATH="{LIBRARY}${{PYTHONPATH:+:$PYTHONPATH}}" exec "$python" -u -c "$1"'


class PythonWorkerNotReadyError(SandboxError):
    """The Python session did not start."""


class PythonWorkerRequestError(SandboxError):
    """Contact with the Python session was lost while it ran code."""


class PythonWorkerDeadError(SandboxError):
    """The Python session is gone, and its sandbox with it."""


class PythonState(TypedDict):
    """`state["python_state"]`: whether the session runs, how many seconds the rollout waited for it, how many calls it
    had, and what is still to be installed before the first.
    """

    ready: bool
    ready_wait_time: float
    execution_count: int
    to_install: list[str]


def python_ready_wait_time(state: State) -> float:
    """Seconds that the rollout waited for its Python session, the sandbox's start included."""
    return float((state.get("python_state") or {}).get("ready_wait_time", 0.0))


class PythonEnv(SandboxEnv):
    """Gives the model the tool `python`: its code runs in one session, the last expression is shown as `Out[n]`.

    The session starts with the first call. Code that takes longer than `timeout_per_command_seconds` is ended with its
    session, and so is one that ends its own process; the model is told, and the next call has a new session.

    pip_install_packages: what pip takes, separated by spaces; "" for nothing. For a Python base image (`python:3.11-slim`)
        they are installed once, into an image on the Hub; into any other image's sandbox by its pip, before the first
        call, for the session alone.
    max_startup_wait_seconds: for the session's start, once its sandbox runs and the packages are there.
    All else as in SandboxEnv; the tool `bash` is not offered (`self.add_tool(self.bash, …)` offers it).
    """

    def __init__(
        self,
        pip_install_packages: str = "numpy sympy scipy",
        max_startup_wait_seconds: float = 30,
        sandbox_name: str = "python-env",
        **kwargs: Any,
    ) -> None:
        super().__init__(sandbox_name=sandbox_name, **kwargs)
        self.pip_install_packages = pip_install_packages
        self.max_startup_wait_seconds = max_startup_wait_seconds
        self._workers: dict[str, _Worker] = {}
        self.add_rubric(Rubric(funcs=[python_ready_wait_time], weights=[0.0]))
        self.remove_tool(self.bash)
        self.add_tool(self.python, args_to_skip=["sandbox_id", "sandbox_state", "python_state"])

    async def setup_state(self, state: State, **kwargs: Any) -> State:
        """As in SandboxEnv, and `state["python_state"]`."""
        packages = shlex.split(self.pip_install_packages)
        state["python_state"] = PythonState(ready=False, ready_wait_time=0.0, execution_count=0, to_install=packages)
        return await super().setup_state(state)

    async def _with_image(self, request: CreateSandboxRequest, state: State) -> CreateSandboxRequest:
        packages = state["python_state"]["to_install"]
        recipe = self._images.base(request.docker_image, packages) if packages else None
        if recipe is None or request.image_digest is not None:
            return request
        state["python_state"]["to_install"] = []
        built = await self._images.built(recipe, request.team_id)
        return replace(request, docker_image=built.image, image_digest=built.digest)

    def update_tool_args(
        self, tool_name: str, tool_args: dict[str, Any], messages: Messages, state: State, **kwargs: Any
    ) -> dict[str, Any]:
        """As in SandboxEnv, and `python_state`."""
        arguments = super().update_tool_args(tool_name, tool_args, messages, state, **kwargs)
        if "python_state" in self._hidden.get(tool_name, frozenset()):
            arguments["python_state"] = state["python_state"]
        return arguments

    async def python(self, code: str, sandbox_id: str, sandbox_state: SandboxState, python_state: PythonState) -> str:
        """Run Python code in a session that keeps its variables, and return what it printed and its last expression.

        Args:
            code: one or more lines of Python
        """
        await self._wait_for_sandbox_ready(sandbox_state, sandbox_id)
        worker = self._workers.get(sandbox_id) or await self._started(sandbox_id, python_state)
        python_state["execution_count"] += 1
        number, seconds = python_state["execution_count"], self.timeout_per_command_seconds
        begun = time.monotonic()
        try:
            async with asyncio.timeout(seconds):
                answer = await worker.run(code, number)
        except TimeoutError:
            await self._give_up(sandbox_id, python_state)
            return f"Error: Code execution timed out after {seconds:g}s. {NEW_SESSION}"
        finally:
            sandbox_state["command_execution_times"].append(time.monotonic() - begun)
        if isinstance(answer, int):
            await self._give_up(sandbox_id, python_state)
            return f"Error: The Python process ended with exit code {answer}. {NEW_SESSION}"
        value = "" if answer["value"] is None else f"Out[{number}]: {answer['value']}"
        return printed(answer["stdout"], answer["stderr"], value, (answer["error"] or "").rstrip())

    async def _started(self, sandbox_id: str, python_state: PythonState) -> _Worker:
        """A session that is ready. Raises PythonWorkerNotReadyError."""
        begun = time.monotonic()
        try:
            await self._install(sandbox_id, python_state)
            process = await self.sandbox_client.open_process(
                sandbox_id, ["/bin/sh", "-c", START, "python-env", WORKER], linger=LINGER_SECONDS
            )
            worker = self._workers[sandbox_id] = _Worker(process)
            try:
                async with asyncio.timeout(self.max_startup_wait_seconds):
                    await worker.ready()
            except Exception:  # the next call has another one
                await self._give_up(sandbox_id, python_state)
                raise
        except TimeoutError:
            seconds = f"{self.max_startup_wait_seconds:g} s (max_startup_wait_seconds)"
            raise PythonWorkerNotReadyError(
                f"The Python session in sandbox {sandbox_id} was not ready after {seconds}."
            ) from None
        except PrimeError as error:
            raise PythonWorkerNotReadyError(
                f"The Python session in sandbox {sandbox_id} did not start. {sentence_of(error)}"
            ) from error
        finally:
            python_state["ready_wait_time"] += time.monotonic() - begun
        python_state["ready"] = True
        return worker

    async def _install(self, sandbox_id: str, python_state: PythonState) -> None:
        packages = python_state["to_install"]
        if not packages:
            return
        done = await self.sandbox_client.execute_command(
            sandbox_id, INSTALL + shlex.join(packages), timeout=INSTALL_SECONDS
        )
        if done.exit_code != 0:
            raise PythonWorkerNotReadyError(
                f"{shlex.join(packages)} could not be installed in sandbox {sandbox_id}: {last_line(done.stderr)}. "
                'Install them in the Dockerfile of its image, and pass pip_install_packages="".'
            )
        python_state["to_install"] = []

    async def _give_up(self, sandbox_id: str, python_state: PythonState) -> None:
        python_state["ready"] = False
        worker = self._workers.pop(sandbox_id, None)
        if worker is not None:
            await worker.end()

    async def _end(self, sandbox_id: str) -> None:
        worker = self._workers.pop(sandbox_id, None)
        if worker is not None:  # its process ends with the sandbox
            await worker.process.detach()
        await super()._end(sandbox_id)


class _Worker:
    """The program `python_worker` in a sandbox, spoken to over its input and output."""

    def __init__(self, process: AsyncSandboxProcess) -> None:
        self.process = process
        self._pieces = process.stdout
        self._read = b""

    async def ready(self) -> None:
        """Raises PythonWorkerNotReadyError when it ended instead."""
        if await self._line() is None:
            code = await self.process.wait()
            _, stderr = await self.process.collect()
            words = last_line(stderr.decode("utf-8", "replace"))
            raise PythonWorkerNotReadyError(f"The Python session ended at once, with exit code {code}: {words}.")

    async def run(self, code: str, number: int) -> dict[str, Any] | int:
        """What came of the code, or the exit code of the process that ended over it.

        Raises PythonWorkerRequestError, and PythonWorkerDeadError when the sandbox has ended.
        """
        from prime_sandboxes import CommandError, SandboxNotRunningError

        request = json.dumps({"number": number, "code": code}).encode() + b"\n"
        try:
            try:
                await self.process.write_stdin(request)
            except CommandError as error:
                if error.error not in ("ended", "no_such_command"):
                    raise
            line = await self._line()
            return await self.process.wait() if line is None else json.loads(line)
        except SandboxNotRunningError as error:
            raise PythonWorkerDeadError(f"The sandbox ended while Python ran. {sentence_of(error)}") from error
        except (PrimeError, ValueError) as error:
            raise PythonWorkerRequestError(
                f"Contact with the Python session was lost while it ran. {sentence_of(error)}"
            ) from error

    async def _line(self) -> bytes | None:
        while b"\n" not in self._read:
            piece = await anext(self._pieces, None)
            if piece is None:
                return None
            self._read += piece
        line, _, self._read = self._read.partition(b"\n")
        return line

    async def end(self) -> None:
        """End it, and everything it has started."""
        try:
            await self.process.kill()
        except PrimeError:
            pass  # it has ended, or will with its sandbox
        await self.process.aclose()


def last_line(text: str) -> str:
    """The last line of an output that is not empty, without its full stop."""
    return next((line.strip().rstrip(".") for line in reversed(text.splitlines()) if line.strip()), "it said nothing")
