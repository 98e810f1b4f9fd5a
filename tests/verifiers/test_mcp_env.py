"""The tools of MCP servers: programs and addresses, as the library `mcp` serves them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import verifiers as vf
from tests.openenv.conftest import free_port
from tests.support.libraries import folder_of
from tests.support.scripted import Scripted, said
from verifiers.envs.experimental.mcp_env import MCPServerConfig

pytestmark = [pytest.mark.index, pytest.mark.slow]
ROWS = [{"question": "q"} for _ in range(4)]
SERVER = '''
import base64, os, sys, time
from mcp.server.mcpserver import Image, MCPServer
from mcp.server.mcpserver.exceptions import ToolError

server = MCPServer("desk")
kept = []

@server.tool()
def keep(word: str, times: int = 1) -> str:
    """Keeps a word.

    Args:
        word: which
    """
    kept.extend([word] * times)
    return f"{len(kept)} kept by {os.environ.get('DESK')}"

@server.tool()
def refuse(why: str) -> str:
    raise ToolError(why)

@server.tool()
def sleep() -> str:
    time.sleep(60)

@server.tool()
def draw() -> Image:
    return Image(data=b"png", format="png")

@server.tool()
def pid() -> int:
    return os.getpid()

if len(sys.argv) > 1:
    server.run("streamable-http", host="127.0.0.1", port=int(sys.argv[1]))
else:
    print("the desk is open", file=sys.stderr)
    server.run()
'''


@pytest.fixture(scope="module")
def library() -> Iterator[Path]:
    """`mcp` can be imported, here and in servers."""
    folder = folder_of("mcp>=2,<3")
    sys.path.append(str(folder))
    yield folder
    sys.path.remove(str(folder))


@pytest.fixture
def desk(tmp_path: Path, library: Path) -> dict:
    """A server that is a program."""
    (tmp_path / "desk.py").write_text(SERVER)
    environment = {"PYTHONPATH": str(library), "DESK": "oak"}
    return {"name": "desk", "command": sys.executable, "args": [str(tmp_path / "desk.py")], "env": environment}


async def run(env, *turns, rows=ROWS[:1]):
    async with env:
        return (await env.generate(rows, Scripted(*turns), "scripted"))["outputs"]


async def test_the_tools_of_a_program_are_offered_and_called(desk):
    def add(a: int, b: int) -> int:
        """Adds."""
        return a + b

    env = vf.MCPEnv(mcp_servers=[desk], tools=[add], dataset=ROWS)
    assert [tool.name for tool in env.tool_defs] == ["add"]
    first = [("keep", {"word": "a", "times": 2}), ("add", {"a": 1, "b": 2})]
    second = [("refuse", {"why": "no reason"}), ("keep", {"times": 2}), ("draw", {}), ("nothing", {})]
    [output] = await run(env, first, second)
    tools = {tool["name"]: tool for tool in output["tool_defs"]}
    assert list(tools) == ["add", "keep", "refuse", "sleep", "draw", "pid"]
    assert tools["keep"]["parameters"]["required"] == ["word"] and tools["keep"]["description"].startswith(
        "Keeps a word"
    )
    kept, three, refused, wrong, picture, unknown = said(output)
    assert (kept, three) == ("2 kept by oak", "3") and refused.startswith("Error: ") and "no reason" in refused
    assert wrong.startswith("Error: ") and "word" in wrong and unknown == "Error: 'nothing'"
    assert picture == [{"type": "image_url", "image_url": {"url": "data:image/png;base64,cG5n"}}]
    assert output["keep_calls"] == 2.0 and output["refuse_calls"] == 1.0 and output["error"] is None


async def test_rollouts_share_a_server_that_ends_with_the_run(desk):
    env = vf.MCPEnv(mcp_servers=[desk], dataset=ROWS)
    outputs = await run(env, [("pid", {})], rows=ROWS)
    [pid] = {said(output)[0] for output in outputs}
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)
    [again] = await run(env, [("pid", {})])
    assert said(again)[0] != pid and len(again["tool_defs"]) == 5


async def test_a_server_that_dies_is_nobodys_fault_and_comes_back(desk):
    def die(prompt):
        os.kill(int(prompt[-1]["content"]), signal.SIGKILL)
        return [("pid", {})]

    async with vf.MCPEnv(mcp_servers=[desk], dataset=ROWS) as env:
        output = (await env.generate(ROWS[:1], Scripted([("pid", {})], die), "scripted"))["outputs"][0]
        assert output["error"]["error"] == "MCPServerError" and output["reward"] is None
        assert output["error"]["message"].startswith("The MCP server 'desk' is gone: ")
        output = (await env.generate(ROWS[:1], Scripted([("keep", {"word": "a"})]), "scripted"))["outputs"][0]
        assert said(output) == ["1 kept by oak"]


async def test_a_slow_tool_is_told_and_a_cancelled_run_leaves_nothing(desk):
    env = vf.MCPEnv(mcp_servers=[desk], dataset=ROWS, tool_timeout_seconds=0.5)
    [output] = await run(env, [("sleep", {})])
    assert said(output) == ["Error: The tool sleep did not answer within 0.5s."] and output["error"] is None

    pids = []
    hanging = asyncio.Event()

    def hang(prompt):
        pids.append(int(prompt[-1]["content"]))
        hanging.set()
        return [("sleep", {})]

    running = asyncio.create_task(run(vf.MCPEnv(mcp_servers=[desk], dataset=ROWS), [("pid", {})], hang))
    await hanging.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)


async def test_a_server_with_an_address(desk):
    port = free_port()
    address = {"name": "web", "url": f"http://127.0.0.1:{port}/mcp", "headers": {"X-Key": "k"}}
    environment = {**os.environ, **desk["env"], "DESK": "web"}
    quiet = asyncio.subprocess.DEVNULL
    served = await asyncio.create_subprocess_exec(
        desk["command"], *desk["args"], str(port), env=environment, stdout=quiet, stderr=quiet
    )
    try:
        for _ in range(200):
            env = vf.MCPEnv(mcp_servers=[address], dataset=ROWS)
            [output] = await run(env, [("keep", {"word": "a"}), ("refuse", {"why": "no"})])
            if output["error"] is None:
                break
            assert "(http://127.0.0.1:" in output["error"]["message"]
        assert said(output)[0] == "1 kept by web" and "no" in said(output)[1]

        def die(prompt):
            served.kill()
            return [("keep", {"word": "b"})]

        [output] = await run(vf.MCPEnv(mcp_servers=[address], dataset=ROWS), [("keep", {"word": "b"})], die)
        assert output["error"]["error"] == "MCPServerError" and output["reward"] is None
        assert output["error"]["message"].startswith("The MCP server 'web' is gone: ")
    finally:
        with contextlib.suppress(ProcessLookupError):
            served.kill()
        await served.wait()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"command": "/no/such/program"}, "(/no/such/program "),
        ({"args": ["-c", "import sys; print('the desk is closed', file=sys.stderr)"]}, "It said: the desk is closed"),
        ({"args": ["-c", "import time; time.sleep(60)"]}, "it was not ready after 1 s (startup_timeout_seconds)"),
    ],
)
async def test_a_server_that_does_not_start_is_a_sentence(desk, change, words):
    [output] = await run(vf.MCPEnv(mcp_servers=[{**desk, **change}], dataset=ROWS, startup_timeout_seconds=1), "x")
    assert output["error"]["error"] == "MCPServerError" and output["reward"] is None
    assert output["error"]["message"].startswith("The MCP server 'desk' (") and words in output["error"]["message"]


async def test_two_tools_of_one_name_are_a_sentence(desk):
    outputs = await run(vf.MCPEnv(mcp_servers=[desk, {**desk, "name": "other"}], dataset=ROWS), "x", rows=ROWS[:2])
    for output in outputs:
        assert "The MCP server 'other' has a tool called 'keep', and so has another" in output["error"]["message"]


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        (
            {"url": "http://127.0.0.1:1/mcp?apiKey=hidden-1", "headers": {"X-Key": "hidden-2"}},
            "(http://127.0.0.1:1/mcp)",
        ),
        (
            {
                "command": sys.executable,
                "args": [
                    "-c",
                    "import os; exit(os.environ['DESK_TOKEN'])",
                    "--api-key=hidden-1",
                    "--token",
                    "hidden-2",
                ],
                "env": {"DESK_TOKEN": "hidden-3"},
            },
            "--api-key=… --token …) did not start",
        ),
        ({"command": "/no/such/program", "args": ["http://u:hidden-1@127.0.0.1/?k=hidden-2"]}, " http://127.0.0.1/)"),
    ],
)
async def test_keys_of_a_server_get_into_no_row(library, change, shown):
    server = {"name": "desk", **change}
    [output] = await run(vf.MCPEnv(mcp_servers=[server], dataset=ROWS, startup_timeout_seconds=5), "x")
    assert output["error"]["error"] == "MCPServerError" and shown in output["error"]["message"]
    assert "hidden" not in repr(output)
    assert "hidden" not in repr(MCPServerConfig(name="a", command="b", env={"K": "hidden"}))


@pytest.mark.parametrize(
    ("servers", "words"),
    [
        ([{"name": "a"}], "The MCP server 'a' needs a command or a url, and not both."),
        ([{"name": "a", "command": "x", "url": "y"}], "needs a command or a url, and not both."),
        ([{"command": "x"}], r"needs a name; this one has the fields \['command'\]"),
        ([{"name": "a", "comand": "x"}], "An MCP server has no field 'comand'; it has: name, command, args"),
        ([{"name": "a", "command": "x"}] * 2, "more than one MCP server called 'a'"),
    ],
)
def test_servers_that_cannot_be_are_sentences(library, servers, words):
    with pytest.raises(ValueError, match=words):
        vf.MCPEnv(mcp_servers=servers, dataset=ROWS)


def test_without_the_library_a_sentence_says_what_to_install():
    code = "import sys; sys.modules['mcp'] = None\nimport verifiers as vf\nvf.MCPEnv(dataset=[{}])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1] == (
        "ImportError: MCPEnv requires mcp. Install with: uv add 'mcp>=2,<3' (the extra verifiers[mcp])"
    )
