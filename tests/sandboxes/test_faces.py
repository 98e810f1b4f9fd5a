"""The two faces of the SDK are one: every call of the async classes is there for programs without asyncio, as it is."""

from __future__ import annotations

import asyncio
import gc
import inspect
import subprocess
import sys
import threading
import time

import pytest

import prime_sandboxes
from prime_core.errors import NotFound
from prime_sandboxes import (
    AsyncFiles,
    AsyncImageClient,
    AsyncSandbox,
    AsyncSandboxClient,
    AsyncSandboxProcess,
    CreateSandboxRequest,
    Files,
    ImageClient,
    RunningSandbox,
    Sandbox,
    SandboxClient,
    SandboxProcess,
)
from prime_sandboxes.blocking import Loop, Stream

TWINS = [
    (AsyncSandboxClient, SandboxClient, {}),
    (AsyncImageClient, ImageClient, {}),
    (AsyncFiles, Files, {}),
    (AsyncSandboxProcess, SandboxProcess, {"follow", "started"}),
    (AsyncSandbox, RunningSandbox, {"start"}),
]


def calls(kind: type) -> dict[str, object]:
    return {name: value for name, value in inspect.getmembers(kind) if not name.startswith("_")}


@pytest.mark.parametrize(("async_kind", "sync_kind", "inner"), TWINS)
def test_every_call_has_its_twin(async_kind, sync_kind, inner):
    wanted = {"close" if name == "aclose" else name for name in calls(async_kind)} - set(inner)
    assert wanted <= set(calls(sync_kind)) | {"client", "info"}
    for name, call in calls(sync_kind).items():
        if not inspect.isfunction(call) or name in ("close", "create", "attach", "files"):
            continue
        original = calls(async_kind)[name]
        assert not inspect.iscoroutinefunction(call)
        assert call.__doc__ == original.__doc__ and call.__doc__
        assert call.__qualname__ == f"{sync_kind.__name__}.{name}"
        assert inspect.signature(call).parameters == inspect.signature(original).parameters


def test_signatures_name_the_blocking_kinds():
    assert inspect.signature(SandboxClient.open_process).return_annotation == "SandboxProcess"
    assert inspect.signature(SandboxClient.stream).return_annotation == "CommandStream"
    assert inspect.signature(SandboxClient.follow_logs).return_annotation == "Stream"


def test_nothing_heavy_is_loaded_before_the_first_call():
    code = (
        "import sys\nbefore = set(sys.modules)\n"
        "import prime_sandboxes as ps\n"
        "ps.SandboxClient(); ps.AsyncSandboxClient(); ps.ImageClient(); ps.AsyncImageClient(); ps.Sandbox; ps.APIClient()\n"
        "ps.CreateSandboxRequest(name='x', docker_image='y')\n"
        "heavy = ('httpx', 'pydantic', 'rich', 'asyncio', 'ssl', 'anyio', 'h11', 'email')\n"
        "print([name for name in heavy if name in sys.modules and name not in before])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout == "[]\n"


def test_every_exception_of_the_official_names_is_there():
    for name in (
        *("APIError", "UnauthorizedError", "PaymentRequiredError", "APITimeoutError", "TimeoutError"),
        *("SandboxFileNotFoundError", "SandboxFileTooLargeError", "BatchStatusUnsupportedError"),
        *("SandboxNotRunningError", "SandboxOOMError", "SandboxTimeoutError", "SandboxImagePullError"),
        *("CommandTimeoutError", "UploadTimeoutError", "DownloadTimeoutError"),
    ):
        assert issubclass(getattr(prime_sandboxes, name), Exception)
    assert issubclass(prime_sandboxes.CommandTimeoutError, RuntimeError)
    assert issubclass(prime_sandboxes.SandboxOOMError, prime_sandboxes.SandboxNotRunningError)


def test_requests_of_any_version_are_understood():
    asked = CreateSandboxRequest(
        name="x", docker_image="y", vm=False, guaranteed=True, network_access=False, start_command="tail -f /dev/null"
    )
    body = asked.to_wire()
    assert (body["vm"], body["network_access"], body["start_command"]) == (False, False, "tail -f /dev/null")
    assert "secrets" not in body


def test_a_sandbox_is_gone_after_its_block(client, plain_image):
    with Sandbox.create(plain_image, client, labels=["block"], name="mine") as box:
        assert box.info is not None
        assert (box.info.status, box.info.name, box.info.labels) == ("RUNNING", "mine", ["block"])
        assert box.refresh().status == "RUNNING"
        assert "ready" in box.logs()
        assert box.usage().processes >= 1
        with pytest.raises(RuntimeError, match="mine"):
            raise RuntimeError("mine")
    assert client.get(box.id).status == "TERMINATED"
    box.delete()


def test_a_block_that_is_left_by_an_error_ends_it_too(client, plain_image):
    made = []
    with pytest.raises(ZeroDivisionError), Sandbox.create(plain_image, client) as box:
        made.append(box.id)
        _ = 1 / 0
    assert client.get(made[0]).status == "TERMINATED"


def test_keep_and_attach(client, plain_image):
    with Sandbox.create(plain_image, client, keep=True, lease_seconds=None) as box:
        pass
    assert client.get(box.id).status == "RUNNING"
    with Sandbox.attach(box.id, client) as again:
        assert again.run("echo $0").exit_code == 0
    assert client.get(box.id).status == "RUNNING"
    again.delete()
    assert client.get(box.id).status == "TERMINATED"


def test_what_cannot_start_is_an_error_and_leaves_nothing(client, plain_image):
    with pytest.raises(NotFound, match="nowhere"):
        Sandbox.create("nowhere:latest", client)
    with pytest.raises(TypeError, match="no option memory"):
        Sandbox.create(plain_image, client, memory=1)  # ty: ignore[unknown-argument]
    with pytest.raises(prime_sandboxes.SandboxNotRunningError):
        Sandbox.create(plain_image, client, start_command="no-such-program", labels=["broken"])
    assert client.list(labels=["broken"], exclude_terminated=True).total == 0


async def test_the_async_object(connection, plain_image):
    async with AsyncSandboxClient(connection) as client:
        async with AsyncSandbox.create(plain_image, client) as box:
            assert (await box.run("echo hi")).stdout == "hi\n"
            await box.files.write("/app/x", "y")
            assert [text async for _, text in box.stream("cat /app/x")] == ["y"]
        assert (await client.get(box.id)).status == "TERMINATED"
        made = await AsyncSandbox.create(plain_image, client)
        assert made.info is not None and made.info.status == "RUNNING"
        await made.aclose()
        with pytest.raises(RuntimeError, match="not made yet"):
            _ = AsyncSandbox.create(plain_image, client).id


def test_several_are_waited_for_and_looked_at(client, plain_image):
    made = [client.create(CreateSandboxRequest(name="m", docker_image=plain_image)) for _ in range(3)]
    ids = [item.id for item in made]
    assert client.bulk_wait_for_creation(ids) == dict.fromkeys(ids, "RUNNING")
    found = client.get_sandbox_statuses([*ids, "no-such"])
    assert [item.status for item in found.statuses] == ["RUNNING"] * 3
    assert [(item.sandbox_id, item.code) for item in found.errors] == [("no-such", "NOT_FOUND")]
    assert sorted(client.bulk_delete(ids).succeeded) == sorted(ids)


def test_logs_are_followed_to_their_end(client, plain_image):
    command = "sh -c 'for n in 1 2 3; do echo line $n; sleep 0.4; done'"
    with Sandbox.create(plain_image, client, start_command=command) as box:
        pieces = list(client.follow_logs(box.id))
    assert "".join(pieces) == "line 1\nline 2\nline 3\n"
    assert len(pieces) >= 2


def test_where_it_may_connect_to_is_said(client, plain_image):
    with Sandbox.create(plain_image, client) as box:
        status = client.get_network(box.id)
        assert status.policy.allowlist is None
        with pytest.raises(ValueError, match="not both"):
            client.set_network(box.id, allow=["a.example"], deny=["b.example"])


def test_a_client_that_is_dropped_takes_its_thread_along(connection):
    before = len([thread for thread in threading.enumerate() if thread.name == "prime-sandboxes"])
    client = SandboxClient(connection)
    client.list()
    del client
    gc.collect()
    deadline = time.monotonic() + 30
    while len([thread for thread in threading.enumerate() if thread.name == "prime-sandboxes"]) > before:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_what_comes_last_comes_once():
    ended = []

    async def last():
        ended.append(asyncio.get_running_loop())

    async def mine():
        return threading.current_thread()

    loop = Loop(last)
    for times in range(1, 4):
        thread = loop.run(mine())
        loop.close()
        thread.join(10)
        assert not thread.is_alive()
        assert len(ended) == times


def test_a_stream_is_let_go_of_while_a_step_goes_on_that_nobody_waits_for():
    """As when Ctrl-C comes before the caller of a step knows of it."""
    closed = []

    async def numbers():
        try:
            yield 1
            await asyncio.sleep(60)
        finally:
            closed.append(True)

    loop = Loop()
    stream = Stream(numbers(), loop)
    assert next(stream) == 1 and loop._loop is not None
    asyncio.run_coroutine_threadsafe(stream._step(), loop._loop)
    stream.close()
    loop.close()
    assert closed == [True]
