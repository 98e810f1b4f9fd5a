"""The SDK against a real Hub with its runner: the same story sync and async."""

import asyncio
import contextlib
import gc
import os
import signal
import subprocess
import sys
import time

import httpx
import pytest

import prime_sandboxes
from prime_core.connection import Connection
from prime_core.errors import NotFound
from prime_sandboxes import (
    APIClient,
    AsyncImageClient,
    AsyncSandboxClient,
    CommandTimeoutError,
    CreateSandboxRequest,
    ImageClient,
    SandboxClient,
    SandboxFileNotFoundError,
    SandboxNotRunningError,
    SandboxTimeoutError,
)

SERVER = """
import http.server, sys
port = int(sys.argv[sys.argv.index("--port") + 1])
print("listening", flush=True)
http.server.ThreadingHTTPServer(("127.0.0.1", port), http.server.SimpleHTTPRequestHandler).serve_forever()
"""
DOCKERFILE = """FROM python:3.11-slim
WORKDIR /app
COPY server.py .
EXPOSE 8000
CMD ["python", "server.py", "--port", "8000"]
"""


@pytest.fixture(scope="module")
def connection(module_hub):
    module_hub.wait_for_runner()
    return Connection(module_hub.url, module_hub.url, module_hub.token)


@pytest.fixture(scope="module")
def context(tmp_path_factory):
    folder = tmp_path_factory.mktemp("context")
    (folder / "Dockerfile").write_text(DOCKERFILE)
    (folder / "server.py").write_text(SERVER)
    return folder


@pytest.fixture(scope="module")
def image(connection, context):
    with ImageClient(connection) as images:
        built = images.build("try", "latest", context)
    assert built.status == "COMPLETED", built.error
    return built.image


def request(image: str, **fields) -> CreateSandboxRequest:
    return CreateSandboxRequest(name="try", docker_image=image, **fields)


def test_names_are_lazy_and_nothing_heavy_is_loaded():
    code = "import sys, prime_sandboxes; from prime_sandboxes import SandboxClient, ImageClient, CreateSandboxRequest\n"
    code += "SandboxClient(); ImageClient(); print([n for n in ('httpx', 'pydantic', 'rich') if n in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout == "[]\n"
    assert all(getattr(prime_sandboxes, name) for name in prime_sandboxes.__all__)
    assert dir(prime_sandboxes) == prime_sandboxes.__all__
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = prime_sandboxes.Nothing


def test_images_are_built_once_with_a_log(connection, context):
    said: list[str] = []
    with ImageClient(connection) as images:
        first = images.build("logged", "v1", context, no_cache=True, on_log=said.append)
        assert (first.status, first.cached) == ("COMPLETED", False)
        assert first.image.endswith("/logged:v1")
        assert "COPY server.py" in "".join(said)
        again = images.build("logged", "v1", context)
        assert (again.cached, again.digest, again.image) == (True, first.digest, first.image)
        found = images.get("logged", "v1")
        assert (found.digest, found.reference, found.status) == (first.digest, first.image, "COMPLETED")
        assert first.image in [item.reference for item in images.list()]


def test_a_build_that_fails_is_an_answer(connection, tmp_path):
    (tmp_path / "Dockerfile").write_text("FROM python\nRUN npm install\n")
    with ImageClient(connection) as images:
        built = images.build("broken", "latest", tmp_path)
    assert built.status == "FAILED"
    assert "npm is not run here" in str(built.error)


def test_a_sandbox_from_create_to_delete(connection, image, tmp_path):
    with SandboxClient(connection) as client:
        sandbox = client.create(request(image, environment_vars={"X": "1"}, labels=["story"]))
        assert client.wait_for_creation(sandbox.id).status == "RUNNING"
        exposed = client.expose(sandbox.id, 8000, name="web", protocol="TCP")
        _answers(f"http://{exposed.external_endpoint}/server.py")
        assert [item.exposure_id for item in client.list_exposed_ports(sandbox.id)] == [exposed.exposure_id]

        ran = client.execute_command(sandbox.id, "echo $X; pwd >&2; exit 3", working_dir="/tmp")
        assert (ran.stdout, ran.exit_code, "/tmp" in ran.stderr) == ("1\n", 3, True)
        with pytest.raises(CommandTimeoutError, match=r"did not end within 0\.5 seconds and was killed: sleep 60"):
            client.execute_command(sandbox.id, "sleep 60", timeout=0.5)

        (tmp_path / "up.bin").write_bytes(bytes(range(256)))
        assert client.upload_file(sandbox.id, "/app/new/up.bin", tmp_path / "up.bin").size == 256
        assert client.upload_bytes(sandbox.id, "/app/note", "héllo".encode(), "note").success
        client.download_file(sandbox.id, "/app/new/up.bin", tmp_path / "down.bin")
        assert (tmp_path / "down.bin").read_bytes() == bytes(range(256))
        window = client.read_file(sandbox.id, "/app/note", offset=-3, length=2)
        assert (window.content, window.offset, window.total_size, window.truncated) == ("ll", 3, 6, True)
        for call in (
            lambda: client.read_file(sandbox.id, "/app/none"),
            lambda: client.download_file(sandbox.id, "/app/none", tmp_path / "none"),
        ):
            with pytest.raises(SandboxFileNotFoundError, match="/app/none"):
                call()
        assert not (tmp_path / "none").exists()

        assert "listening" in client.get_logs(sandbox.id)
        assert sandbox.id in [item.id for item in client.list(labels=["story"]).sandboxes]
        client.unexpose(sandbox.id, exposed.exposure_id)
        client.delete(sandbox.id)
        assert client.get(sandbox.id).status == "TERMINATED"
        with pytest.raises(SandboxNotRunningError):
            client.execute_command(sandbox.id, "true")


def _answers(url: str) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            assert httpx.get(url).status_code == 200
            return
        except httpx.TransportError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


async def test_the_same_asynchronously(connection, image):
    async with AsyncSandboxClient(connection) as client, AsyncImageClient(connection) as images:
        assert image in [item.reference for item in await images.list()]
        made = await asyncio.gather(*(client.create(request(image, labels=["many"])) for _ in range(4)))
        started = await asyncio.gather(*(client.wait_for_creation(item.id) for item in made))
        assert {item.status for item in started} == {"RUNNING"}
        ran = await asyncio.gather(*(client.execute_command(item.id, f"echo {item.id}") for item in made))
        assert [item.stdout.strip() for item in ran] == [item.id for item in made]
        gone = await client.bulk_delete([item.id for item in made])
        assert sorted(gone.succeeded) == sorted(item.id for item in made)
        assert (await client.list(labels=["many"], exclude_terminated=True)).total == 0


def test_create_is_idempotent_by_its_key(connection, image):
    with SandboxClient(connection) as client:
        asked = request(image, idempotency_key="the-same-key")
        first, again = client.create(asked), client.create(asked)
        assert first.id == again.id
        client.delete(first.id)


def test_what_is_refused_is_a_sentence(connection, image):
    with SandboxClient(connection) as client:
        with pytest.raises(NotFound, match="nowhere"):
            client.create(request("nowhere:latest"))
        with pytest.raises(NotFound):
            client.get("no-such-sandbox")
        failed = client.create(request(image, start_command="no-such-program"))
        with pytest.raises(SandboxNotRunningError, match="no-such-program") as caught:
            client.wait_for_creation(failed.id)
        assert caught.value.sandbox_id == failed.id
        assert caught.value.error_type == "START_FAILED"


def test_a_server_that_ends_leaves_its_last_words(connection, image):
    with SandboxClient(connection) as client:
        sandbox = client.create(request(image, start_command="sh -c 'echo last words; exit 7'"))
        deadline = time.monotonic() + 30
        while client.get(sandbox.id, wait=1).status in ("PENDING", "PROVISIONING", "RUNNING"):
            assert time.monotonic() < deadline
        context = client.error_context(sandbox.id)
        assert (context.exit_code, context.error_type) == (7, "EXITED")
        assert "last words" in str(context.logs)


def test_leases_are_renewed_until_cancelled(connection, image):
    with SandboxClient(connection) as client:
        sandbox = client.create(request(image, lease_seconds=4))
        client.wait_for_creation(sandbox.id)
        keeper = client.keep_alive(sandbox.id, 4)
        # A main thread that is busy must not lose it.
        time.sleep(6)
        assert client.get(sandbox.id).status == "RUNNING"
        keeper.cancel()
        assert keeper.error is None
        deadline = time.monotonic() + 30
        while client.get(sandbox.id).status == "RUNNING":
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert client.error_context(sandbox.id).error_message == "The sandbox's lease was not renewed, so it was ended."
        with pytest.raises(SandboxTimeoutError, match="lease was not renewed"):
            client.wait_for_creation(sandbox.id)


def test_a_renewal_that_cannot_begin_says_why_and_can_be_begun_again(module_hub, monkeypatch):
    monkeypatch.setenv("PRIME_API_BASE_URL", module_hub.url)
    with SandboxClient() as client:
        assert "Run 'prime login' first" in _end_of_renewals(client)
        monkeypatch.setenv("PRIME_API_KEY", module_hub.token)
        assert "has no sandbox no-such" in _end_of_renewals(client)


def _end_of_renewals(client: SandboxClient) -> str:
    keeper = client.keep_alive("no-such", 0.3)
    deadline = time.monotonic() + 30
    while not keeper.cancelled:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return str(keeper.error)


async def test_a_file_on_disk_is_streamed(connection, image, tmp_path):
    """Its size in memory would be the end of a client that sends a data set."""
    import tracemalloc

    source = tmp_path / "large.bin"
    with source.open("wb") as file:
        file.truncate(64 << 20)
    async with AsyncSandboxClient(connection) as client:
        sandbox = await client.create(request(image))
        await client.wait_for_creation(sandbox.id)
        await client.execute_command(sandbox.id, "true")
        tracemalloc.start()
        try:
            sent = await client.upload_file(sandbox.id, "/app/large.bin", source)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert sent.size == 64 << 20 and peak < 16 << 20
        await client.delete(sandbox.id)


def test_a_killed_client_leaves_nothing(module_hub, connection, image):
    code = (
        "import sys, time\nfrom prime_core.connection import Connection\n"
        "from prime_sandboxes import CreateSandboxRequest, SandboxClient\n"
        f"client = SandboxClient(Connection({module_hub.url!r}, '', {module_hub.token!r}))\n"
        f"made = client.create(CreateSandboxRequest(name='x', docker_image={image!r}, lease_seconds=2))\n"
        "client.keep_alive(made.id, 2)\nprint(made.id, flush=True)\ntime.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        sandbox_id = process.stdout.readline().strip()
        process.send_signal(signal.SIGKILL)
    with SandboxClient(connection) as client:
        deadline = time.monotonic() + 30
        while client.get(sandbox_id).status in ("PENDING", "RUNNING"):
            assert time.monotonic() < deadline
            time.sleep(0.1)
    assert not _marked(sandbox_id)


def _marked(sandbox_id: str) -> list[str]:
    wanted = f"PRIME_SANDBOX_ID={sandbox_id}".encode()
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):  # noqa: PTH208
        with contextlib.suppress(OSError), open(f"/proc/{name}/environ", "rb") as file:  # noqa: PTH123
            if wanted in file.read().split(b"\0"):
                found.append(name)
    return found


def test_the_configuration_says_which_hub(module_hub, monkeypatch, image):
    monkeypatch.setenv("PRIME_API_BASE_URL", module_hub.url)
    with SandboxClient(APIClient(api_key=module_hub.token)) as client:
        assert client.list().page == 1
    monkeypatch.setenv("PRIME_API_KEY", module_hub.token)
    client = SandboxClient()
    # After each end it begins anew, and what it begins is not ended by the end before.
    for _ in range(20):
        assert client.list().page == 1
        client.close()
    gc.collect()


def test_without_a_key_it_says_what_to_do():
    with SandboxClient() as client, pytest.raises(Exception, match="Run 'prime login' first"):
        client.list()
