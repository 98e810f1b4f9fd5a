"""Rollouts with a sandbox each, on a real Hub: what the model sees of it, and that nothing of it is left."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import verifiers as vf
from prime_core.connection import Connection
from prime_sandboxes import SandboxClient
from tests.support.scripted import Scripted, said
from verifiers.envs.sandbox_env import SandboxCreationError, SandboxNotReadyError

ROWS = [{"question": "q", "answer": str(number)} for number in range(4)]


@pytest.fixture(autouse=True)
def on_the_hub(module_hub, monkeypatch):
    module_hub.wait_for_runner()
    for name in ("PRIME_API_BASE_URL", "PRIME_FRONTEND_URL", "PRIME_API_KEY"):
        monkeypatch.setenv(name, module_hub.environment()[name])


@pytest.fixture
def sandboxes(module_hub):
    """`sandboxes()`: those that live."""
    with SandboxClient(Connection(module_hub.url, module_hub.url, module_hub.token)) as client:
        yield lambda **wanted: client.list(exclude_terminated=True, **wanted).sandboxes


def as_expected(state) -> float:
    """What `post_rollout` found."""
    return float(state["found"] == state["answer"])


class Examined(vf.SandboxEnv):
    """Reads a file of the sandbox when the rollout is over."""

    async def post_rollout(self, state):
        done = await self.sandbox_client.execute_command(state["sandbox_id"], "cat answer.txt")
        state["found"] = done.stdout.strip()


async def run(env, *turns, rows=ROWS[:1], **options):
    async with env:
        return (await env.generate(rows, Scripted(*turns), "scripted", **options))["outputs"]


async def test_commands_run_in_a_sandbox_of_ones_own(sandboxes):
    living = []

    def look(prompt):
        living.append(len(sandboxes(labels=["of-this-test"])))
        return [("bash", {"command": "cat mine.txt; cat nothing.txt"})]

    env = vf.SandboxEnv(dataset=ROWS, labels=["of-this-test"], environment_vars={"WHO": "it"})
    [tool] = env.tool_defs
    assert (tool.name, tool.parameters["required"], list(tool.parameters["properties"])) == (
        "bash",
        ["command"],
        ["command"],
    )
    columns = ["sandbox_id", "sandbox_state"]
    write = [("bash", {"command": 'echo "  of $WHO $PRIME_SANDBOX_ID" > mine.txt'})]
    outputs = await run(env, write, look, rows=ROWS, state_columns=columns)
    assert living and max(living) <= len(ROWS) and len({output["sandbox_id"] for output in outputs}) == len(ROWS)
    for output in outputs:
        first, second = said(output)
        missing = "stderr:\ncat: nothing.txt: No such file or directory"
        assert first == "(no output)" and second == f"  of it {output['sandbox_id']}\n{missing}"
        assert output["stop_condition"] == "no_tools_called" and output["reward"] == 0.0
        assert output["bash_calls"] == 2.0 and output["sandbox_state"]["ready"]
        times = output["sandbox_state"]["command_execution_times"]
        assert len(times) == 2 and output["sandbox_command_execution_time"] == pytest.approx(sum(times) / 2)
        assert output["sandbox_ready_wait_time"] == output["sandbox_state"]["ready_wait_time"]
    assert sandboxes() == []


async def test_a_command_that_takes_too_long_is_told_and_the_sandbox_lives_on():
    env = vf.SandboxEnv(dataset=ROWS, timeout_per_command_seconds=0.5)
    [output] = await run(env, [("bash", {"command": "sleep 60"}), ("bash", {"command": "echo on"})])
    assert said(output) == ["Error: Command timed out after 0.5s", "on"]


async def test_the_request_of_a_row_and_what_is_done_afterwards(sandboxes):
    class ByRow(Examined):
        async def get_sandbox_request(self, state):
            given = {"name": f"row-{state['answer']}", "environment_vars": {"ANSWER": state["answer"]}}
            return self.sandbox_request.model_copy(update=given, deep=True)

    def names(prompt):
        assert any(sandbox.name.startswith("row-") for sandbox in sandboxes())
        return [("bash", {"command": "echo $ANSWER > answer.txt"})]

    env = ByRow(dataset=ROWS, rubric=vf.Rubric(funcs=[as_expected]))
    outputs = await run(env, names, rows=ROWS[:2])
    assert [output["reward"] for output in outputs] == [1.0, 1.0] and sandboxes() == []


async def test_a_rollout_without_a_command_is_tested_all_the_same(sandboxes):
    [output] = await run(Examined(dataset=ROWS, rubric=vf.Rubric(funcs=[as_expected])), "nothing to do")
    assert output["reward"] == 0.0 and output["error"] is None and sandboxes() == []


async def test_a_test_that_fails_by_itself_scores_nobody(sandboxes):
    class Broken(vf.SandboxEnv):
        async def post_rollout(self, state):
            raise OSError("the tests are gone")

    [output] = await run(Broken(dataset=ROWS), "done")
    assert output["reward"] is None and output["error"]["message"] == "OSError: the tests are gone"
    assert sandboxes() == []


async def test_a_sandbox_that_ends_under_the_rollout_is_nobodys_fault(sandboxes):
    def end(prompt):
        with SandboxClient() as client:
            for sandbox in sandboxes():
                client.delete(sandbox.id)
        return [("bash", {"command": "ls"})]

    [output] = await run(vf.SandboxEnv(dataset=ROWS), [("bash", {"command": "ls"})], end)
    assert (output["error"]["error"], output["reward"]) == ("SandboxError", None)
    assert "failed" in output["error"]["message"] and output["stop_condition"] == "has_error"


async def test_one_that_does_not_start_says_why(sandboxes):
    env = vf.SandboxEnv(dataset=ROWS, start_command="/no/such/program")
    [output] = await run(env, [("bash", {"command": "ls"})])
    # Where a shell starts it, the sandbox runs for a moment.
    assert output["error"]["error"] in {SandboxNotReadyError.__name__, "SandboxError"} and output["reward"] is None
    assert said(output) == [] and output["error"]["message"].endswith(".") and sandboxes() == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"docker_image": "nobody/nothing:latest"}, "nobody/nothing"),
        ({"gpu_count": 1}, "This Hub has no GPUs for sandboxes; ask for gpu_count 0."),
        ({"team_id": "strangers"}, "strangers"),
    ],
)
async def test_what_the_hub_refuses_is_a_sentence_at_once(sandboxes, options, words):
    [output] = await run(vf.SandboxEnv(dataset=ROWS, **options), [("bash", {"command": "ls"})])
    # A container engine looks for an image of a registry first, while the sandbox waits.
    expected = {SandboxCreationError.__name__, *([SandboxNotReadyError.__name__] if "docker_image" in options else [])}
    assert output["error"]["error"] in expected and output["reward"] is None and said(output) == []
    assert words in output["error"]["message"] and sandboxes() == []


async def test_what_is_missing_is_retried_until_it_is_there(monkeypatch):
    """A Hub that does not answer is asked again, with the same key, until the attempts are used up."""
    monkeypatch.setenv("PRIME_API_BASE_URL", "http://127.0.0.1:9")
    env = vf.SandboxEnv(dataset=ROWS, max_retries=2, base_delay=0.001)
    asked = []
    create = type(env.sandbox_client).create

    async def counted(client, request):
        asked.append(request.idempotency_key)
        return await create(client, request)

    monkeypatch.setattr(type(env.sandbox_client), "create", counted)
    [output] = await run(env, "done")
    assert len(asked) == 3 and len(set(asked)) == 1 and output["error"]["error"] == "SandboxCreationError"


async def test_nothing_is_left_when_the_time_is_over(sandboxes):
    env = vf.SandboxEnv(dataset=ROWS, timeout_seconds=12.0)
    [output] = await run(env, [("bash", {"command": "sleep 60"})])
    assert output["stop_condition"] == "timeout_reached" and output["error"] is None and output["reward"] == 0.0
    assert sandboxes() == []


async def test_a_rollout_that_only_waited_is_not_scored(start_hub, monkeypatch):
    """One sandbox at a time: the other rollout's is still in the queue when the time is over."""
    full = start_hub("--max-sandboxes", "1")
    full.wait_for_runner()
    for name in ("PRIME_API_BASE_URL", "PRIME_FRONTEND_URL", "PRIME_API_KEY"):
        monkeypatch.setenv(name, full.environment()[name])
    env = vf.SandboxEnv(dataset=ROWS, timeout_seconds=15.0, timeout_per_command_seconds=60)
    outputs = await run(env, [("bash", {"command": "sleep 60"})], rows=ROWS[:2])
    assert [output["stop_condition"] for output in outputs] == ["timeout_reached"] * 2
    [played, waited] = sorted(outputs, key=lambda output: output["error"] is not None)
    assert played["error"] is None and played["reward"] == 0.0
    assert waited["error"]["error"] == SandboxNotReadyError.__name__ and waited["reward"] is None
    assert waited["error"]["message"].startswith("The sandbox did not run after 15 s (timeout_seconds).")
    with SandboxClient() as client:
        assert client.list(exclude_terminated=True).sandboxes == []


async def test_nothing_is_left_when_the_run_is_cancelled(sandboxes):
    called = []

    class Watched(vf.SandboxEnv):
        async def post_rollout(self, state):
            called.append(state)

    env = Watched(dataset=ROWS)
    everybody = asyncio.Event()

    def hang(prompt):
        if len(sandboxes()) == len(ROWS):
            everybody.set()
        return [("bash", {"command": "sleep 60"})]

    running = asyncio.create_task(run(env, hang, rows=ROWS))
    await everybody.wait()
    assert len(sandboxes()) == len(ROWS)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert sandboxes() == [] and called == []


async def test_nothing_is_left_when_it_is_cancelled_while_it_asks(sandboxes):
    env = vf.SandboxEnv(dataset=ROWS)
    create = type(env.sandbox_client)._create
    sent = asyncio.Event()

    async def noticed(client, request):
        made = await create(client, request)
        sent.set()
        await asyncio.sleep(0.05)
        return made

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(env.sandbox_client), "_create", noticed)
        running = asyncio.create_task(run(env, "done", rows=ROWS[:1]))
        await sent.wait()
        assert len(sandboxes()) == 1
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    assert sandboxes() == []


DIES = """
import asyncio, os
import verifiers as vf
from tests.support.scripted import Scripted

def die(prompt):
    print("up", flush=True)
    os.kill(os.getpid(), 9)

env = vf.SandboxEnv(dataset=[{"question": "q"}])
env.generate_sync(env.get_dataset(), Scripted([("bash", {"command": "true"})], die), "scripted")
"""


def test_a_lease_ends_it_when_the_program_dies(sandboxes, module_hub):
    environment = {**module_hub.environment(), "PRIME_LEASE_SECONDS": "3", "PYTHONPATH": str(Path.cwd())}
    done = subprocess.run([sys.executable, "-c", DIES], env=environment, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL and done.stdout == "up\n", done.stderr
    with SandboxClient() as client:
        for _ in range(600):
            if not sandboxes():
                return
            client.get(sandboxes()[0].id) if sandboxes() else None
    raise AssertionError("the sandbox lives on")


def test_tools_of_a_subclass_get_the_sandbox():
    class Counting(vf.SandboxEnv):
        def __init__(self, **options):
            super().__init__(**options)
            self.add_tool(self.count, args_to_skip=["sandbox_id"])

        async def count(self, word: str, sandbox_id: str) -> str:
            """Counts."""
            done = await self.sandbox_client.execute_command(sandbox_id, f"grep -c {word} file")
            return done.stdout

        def update_tool_args(self, tool_name, tool_args, messages, state, **kwargs):
            updated = super().update_tool_args(tool_name, tool_args, messages, state, **kwargs)
            return {**updated, "working_dir": "shelf"} if tool_name == "bash" and state["trajectory"][1:] else updated

    env = Counting(dataset=ROWS)
    write = [("bash", {"command": "mkdir shelf; printf 'a\\nb\\na\\n' > file"}), ("count", {"word": "a"})]
    rows = env.get_dataset(1)
    first, second = (
        env.generate_sync(rows, Scripted(write, [("bash", {"command": "pwd"})]), "scripted")["outputs"][0]
        for _ in range(2)  # each in an event loop of its own
    )
    for output in (first, second):
        assert said(output)[:2] == ["(no output)", "2\n"] and said(output)[2].endswith("/shelf")


def test_without_the_sdk_a_sentence_says_what_to_install():
    code = "import sys; sys.modules['prime_sandboxes'] = None\nimport verifiers as vf\nvf.PythonEnv(dataset=[{}])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1] == (
        "ImportError: PythonEnv requires prime-sandboxes. Install with: uv add prime-sandboxes "
        "(the extra verifiers[sandbox])"
    )
