"""What the official SDK is made to do with our Hub, by its own interpreter: `python cases.py sync|async`.

One line of JSON for each case. A case that a version has not is skipped with the reason.
"""

import asyncio
import http.client
import importlib.metadata
import json
import os
import pathlib
import sys
import tempfile
import time
import traceback
import urllib.parse
import uuid

import prime_sandboxes as ps

VERSION = tuple(int(part) for part in importlib.metadata.version("prime-sandboxes").split("."))
IMAGE = os.environ["TRY_IMAGE"]
ENFORCES = set(os.environ["TRY_ENFORCES"].split(","))


class Skipped(Exception):
    """This version has no such thing."""


class Awaited:
    """A sync client whose methods can be awaited, so that each case is written once."""

    def __init__(self, client):
        self._client = client

    def __getattr__(self, name):
        method = getattr(self._client, name)

        async def call(*words, **keywords):
            return await asyncio.to_thread(method, *words, **keywords)

        return call


def request(**fields):
    return ps.CreateSandboxRequest(**{"name": "try", "docker_image": IMAGE, "timeout_minutes": 10, **fields})


def command(*words):
    """A start command in the form that this version takes."""
    if VERSION < (0, 2, 39):
        return " ".join(f"'{word}'" if " " in word else word for word in words)
    return {"executable": words[0], "args": list(words[1:])}


def error_types(name):
    """A public error type, or None: older versions have fewer."""
    return getattr(ps, name, None)


async def raises(kind, work, *, words=""):
    try:
        await work
    except kind as error:
        assert words in str(error), error
        return error
    raise AssertionError(f"no {kind} was raised")


async def running(client, **fields):
    box = await client.create(request(**fields))
    await client.wait_for_creation(box.id)
    return box


async def case_life(client, shared):
    box = await client.create(request(labels=["life"], environment_vars={"GREETING": "from outside"}))
    assert box.id and box.name == "try" and box.labels == ["life"], box
    await client.wait_for_creation(box.id)
    seen = await client.get(box.id)
    assert seen.status == "RUNNING" and seen.started_at, seen
    assert (await client.execute_command(box.id, "echo $GREETING")).stdout == "from outside\n"
    assert isinstance(await client.get_logs(box.id), str)
    assert isinstance(await client.delete(box.id), dict)
    assert (await client.get(box.id)).status == "TERMINATED"
    await raises(ps.APIError, client.delete(box.id), words="404")


async def case_commands(client, box):
    done = await client.execute_command(box, 'echo out; echo err >&2; echo "$A é"; exit 3', env={"A": "ü"})
    assert (done.stdout, done.stderr, done.exit_code) == ("out\nü é\n", "err\n", 3), done
    assert (await client.execute_command(box, "ls", working_dir="/app")).stdout == "server.py\n"
    assert (await client.execute_command(box, "kill -9 $$")).exit_code == 137
    large = await client.execute_command(box, "head -c 3000000 /dev/zero | tr '\\0' x")
    assert large.stdout == "x" * 3000000
    many = await asyncio.gather(*(client.execute_command(box, f"echo {number}") for number in range(20)))
    assert [done.stdout for done in many] == [f"{number}\n" for number in range(20)]
    quick = await client.execute_command(box, "sleep 1000 > /dev/null 2>&1 & echo begun", timeout=20)
    assert quick.stdout == "begun\n", "a command ends with its shell, not with what that leaves behind"


async def case_time_limit(client, box):
    mark = uuid.uuid4().hex
    line = f"(sleep 2; touch /tmp/{mark}) & sleep 1000"
    await raises(ps.CommandTimeoutError, client.execute_command(box, line, timeout=1))
    await asyncio.sleep(2)
    left = await client.execute_command(box, f"test -e /tmp/{mark}")
    assert left.exit_code == 1, "what a command has started is killed with it"


async def case_errors_of_commands(client, box):
    await raises(ps.APIError, client.execute_command(box, "true", working_dir="/no/such"), words="/no/such")


async def case_files(client, box):
    with tempfile.TemporaryDirectory() as folder:
        source, target = pathlib.Path(folder, "a.bin"), pathlib.Path(folder, "b.bin")
        source.write_bytes(os.urandom(3 << 20))
        sent = await client.upload_file(box, "/app/new/folder/a.bin", str(source))
        assert sent.success and sent.size == 3 << 20, sent
        await client.download_file(box, "/app/new/folder/a.bin", str(target))
        assert target.read_bytes() == source.read_bytes()
        await raises(Exception, client.download_file(box, "/no/such", str(target)), words="404")
    await client.upload_bytes(box, "/app/text é.txt", "één\nzwei\n".encode(), "text.txt")
    assert (await client.execute_command(box, "cat '/app/text é.txt'")).stdout == "één\nzwei\n"


async def case_read_file(client, box):
    await client.upload_bytes(box, "/app/digits", b"0123456789", "digits")
    assert (await client.read_file(box, "/app/digits")).content == "0123456789"
    missing = error_types("SandboxFileNotFoundError") or ps.APIError
    await raises(missing, client.read_file(box, "/no/such"))
    if VERSION < (0, 2, 39):
        return
    window = await client.read_file(box, "/app/digits", offset=2, length=3)
    assert (window.content, window.offset, window.total_size, window.truncated) == ("234", 2, 10, True), window
    tail = await client.read_file(box, "/app/digits", offset=-3)
    assert (tail.content, tail.offset, tail.truncated) == ("789", 7, False), tail
    await client.execute_command(box, "head -c 20000000 /dev/zero > /app/large")
    await raises(ps.SandboxFileTooLargeError, client.read_file(box, "/app/large"))


async def case_background_jobs(client, box):
    done = await client.run_background_job(box, "echo begun; echo wrong >&2; sleep 0.1; exit 4", poll_interval=1)
    assert done.completed and done.exit_code == 4, done
    assert (done.stdout, done.stderr) == ("begun\n", "wrong\n"), done
    job = await client.start_background_job(box, "echo first; while [ ! -e /tmp/go ]; do sleep 0.05; done; echo second")
    seen = await client.get_background_job(box, job)
    assert not seen.completed, seen
    if VERSION >= (0, 2, 42):
        pending = await client.get_background_job_statuses([job])
        assert [item.completed for item in pending] == [False], pending
    await client.execute_command(box, "touch /tmp/go")
    while not (seen := await client.get_background_job(box, job)).completed:  # noqa: ASYNC110
        await asyncio.sleep(0.1)
    assert seen.exit_code == 0 and seen.stdout == "first\nsecond\n", seen
    if VERSION >= (0, 2, 42):
        ended = await client.get_background_job_statuses([job])
        assert [(item.completed, item.exit_code) for item in ended] == [(True, 0)], ended


async def case_lists(client, shared):
    label = uuid.uuid4().hex
    boxes = [await client.create(request(name=f"n{number}", labels=[label])) for number in range(3)]
    ids = [box.id for box in boxes]
    states = await client.bulk_wait_for_creation(ids)
    assert states == dict.fromkeys(ids, "RUNNING"), states
    page = await client.list(labels=[label], per_page=2)
    assert (page.total, page.has_next, len(page.sandboxes)) == (3, True, 2), page
    assert [box.name for box in (await client.list(labels=[label], per_page=2, page=2)).sandboxes] == ["n0"]
    gone = await client.bulk_delete(sandbox_ids=ids[:1])
    assert gone.succeeded == ids[:1] and gone.failed == [], gone
    gone = await client.bulk_delete(labels=[label])
    assert sorted(gone.succeeded) == sorted(ids[1:]), gone
    assert (await client.list(labels=[label], exclude_terminated=True)).total == 0
    gone = await client.bulk_delete(sandbox_ids=["no-such"])
    assert gone.succeeded == [] and len(gone.failed) == 1, gone


async def case_statuses(client, shared):
    if not hasattr(ps.SandboxClient, "get_sandbox_statuses"):
        raise Skipped("no batches of statuses")
    found = await client.get_sandbox_statuses([shared, "no-such"])
    assert [item.sandbox_id for item in found.statuses] == [shared]
    assert "RUNNING" in str(found.statuses[0].status) and found.errors[0].sandbox_id == "no-such", found


async def case_idempotent(client, shared):
    if VERSION < (0, 2, 28):
        raise Skipped("no idempotency key")
    key = uuid.uuid4().hex
    first, second = [await client.create(request(idempotency_key=key)) for _ in range(2)]
    assert first.id == second.id
    await client.delete(first.id)


async def case_ports(client, shared):
    if not hasattr(ps.SandboxClient, "expose"):
        raise Skipped("no ports")
    box = await running(client, start_command=command("python", "server.py", "--port", "8000"), vm=False)
    port = await client.expose(box.id, 8000, name="web")
    assert (port.port, port.name, port.sandbox_id) == (8000, "web", box.id), port
    target = urllib.parse.urlsplit(port.url)
    deadline = time.monotonic() + 30
    while True:
        connection = http.client.HTTPConnection(target.hostname, target.port, timeout=10)
        try:
            connection.request("GET", "/")
            assert json.loads(connection.getresponse().read())["status"] == "ok"
            break
        except OSError:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)
        finally:
            connection.close()
    raw = await client.expose(box.id, 8000, protocol="TCP")
    assert raw.external_endpoint == f"{target.hostname}:{target.port}", raw
    for listed in (await client.list_exposed_ports(box.id), await client.list_all_exposed_ports()):
        assert port.exposure_id in [item.exposure_id for item in listed.exposures], listed
    await client.unexpose(box.id, port.exposure_id)
    assert (await client.list_exposed_ports(box.id)).exposures == []
    await client.delete(box.id)


async def case_network(client, box):
    if not hasattr(ps.SandboxClient, "get_network"):
        raise Skipped("no rules for the network")
    found = await client.get_network(box)
    assert found.applied and found.generation == found.applied_generation, found
    if "egress" not in ENFORCES:
        await raises(ps.APIError, client.set_network(box, allow=["example.org"]), words="does not restrict")
        await raises(ps.APIError, client.create(request(network_allowlist=["example.org"])), words="does not restrict")
        return
    changed = await client.set_network(box, allow=["example.org", "192.0.2.0/24"])
    assert changed.policy.allowlist == ["example.org", "192.0.2.0/24"], changed
    assert changed.generation > found.generation and changed.applied, changed
    assert (await client.get_network(box)) == changed


async def case_why_it_ended(client, shared):
    box = await client.create(request(start_command=command("/bin/sh", "-c", "sleep 1; exit 7")))
    kind = error_types("SandboxNotRunningError")
    await raises(kind, until_dead(client, box.id))
    seen = await client.get(box.id)
    assert seen.status == "ERROR" and seen.error_type == "EXITED" and seen.exit_code == 7, seen
    await raises(ps.APIError, client.create(request(docker_image="no-such-image:v1")), words="no-such-image")
    gone = await running(client)
    await client.delete(gone.id)
    await raises((kind, ps.APIError), client.execute_command(gone.id, "true"))
    if VERSION >= (0, 2, 42):
        await raises(kind, client.execute_command(gone.id, "true"))
    if "memory" in ENFORCES:
        eater = "x = []\nwhile True: x.append(bytes(1 << 20))"
        box = await client.create(request(start_command=command("python", "-c", eater), memory_gb=1))
        error = await raises(kind, until_dead(client, box.id))
        assert isinstance(error, ps.SandboxOOMError), type(error)


async def until_dead(client, box):
    while True:
        await client.wait_for_creation(box)
        await asyncio.sleep(0.2)


async def case_not_supported(client, shared):
    if not hasattr(ps.SandboxClient, "checkpoint"):
        raise Skipped("no checkpoints")
    await raises(ps.APIError, client.checkpoint(shared), words="no checkpoints")
    await raises(ps.APIError, client.list_lan_networks(), words="no networks")
    await raises(ps.APIError, client.create_ssh_session(shared, "ssh-ed25519 AAAA"), words="no SSH")
    await raises(ps.APIError, client.create(request(gpu_count=1, gpu_type="H100")), words="GPU")


async def case_vm(client, shared):
    """Old versions speak Connect to what calls itself a virtual machine."""
    box = (await running(client, vm=True)).id
    await case_commands(client, box)
    await case_time_limit(client, box)
    await client.delete(box)


async def with_processes(client):
    """A sandbox in which this version opens processes."""
    if not hasattr(ps.AsyncSandboxClient, "open_process") or not isinstance(client, ps.AsyncSandboxClient):
        raise Skipped("no processes")
    return (await running(client, vm=True)).id


async def case_processes(client, shared):
    box = await with_processes(client)
    process = await client.open_process(box, "read line; echo got $line; echo wrong >&2; exit 5")
    assert process.pid > 0 and process.returncode is None
    await process.write_stdin(b"a line\n")
    assert await process.wait() == 5 == process.returncode
    assert b"".join([part async for part in process.stdout]) == b"got a line\n"
    assert b"".join([part async for part in process.stderr]) == b"wrong\n"
    polite = await client.open_process(box, "trap 'echo asked; exit 6' TERM; echo up; while :; do sleep 0.05; done")
    assert (await anext(polite.stdout)).startswith(b"up")
    await polite.terminate()
    assert await polite.wait() == 6
    deaf = await client.open_process(box, "trap '' TERM; echo up; while :; do sleep 0.05; done", env={"A": "1"})
    assert (await anext(deaf.stdout)).startswith(b"up")
    await deaf.kill()
    assert await deaf.wait() in (137, -9)
    for one in (process, polite, deaf):
        await one.aclose()


async def case_processes_outlive_a_hub(client, shared):
    box = await with_processes(client)
    process = await client.open_process(box, "echo up; read a; echo $a; read b; exit $b")
    assert (await anext(process.stdout)) == b"up\n"
    # The test restarts the Hub now.
    print(json.dumps({"restart": True}), flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    await process.write_stdin(b"again\n")
    assert (await anext(process.stdout)) == b"again\n"
    await process.write_stdin(b"8\n")
    assert await process.wait() == 8


async def main(face):
    client = ps.AsyncSandboxClient() if face == "async" else Awaited(ps.SandboxClient(ps.APIClient()))
    shared = (await running(client)).id
    for name, case in list(globals().items()):
        if name.startswith("case_"):
            told = {"case": name.removeprefix("case_"), "error": None, "skipped": None}
            try:
                await asyncio.wait_for(case(client, shared), 120)
            except Skipped as reason:
                told["skipped"] = str(reason)
            except Exception:
                told["error"] = traceback.format_exc()
            print(json.dumps(told), flush=True)
    await client.delete(shared)


asyncio.run(main(sys.argv[1]))
