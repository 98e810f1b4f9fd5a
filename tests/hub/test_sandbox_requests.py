"""What a client asks for that cannot be, and many sandboxes ended at once."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from prime_hub.api.sandboxes import ManyBody, delete_many
from prime_hub.db.models import Account
from prime_hub.errors import Invalid, NotFound
from prime_hub.hub import Hub
from prime_hub.runner.runtimes.values import Limits
from prime_hub.services.limits import lifetime, require_on_machine
from prime_hub.settings import GIB, Settings
from tests.conftest import RunningHub
from tests.hub.images import Gateway, build, create


@pytest.fixture(scope="module")
def ready(module_hub: RunningHub) -> RunningHub:
    """A Hub with the image `tiny:latest`."""
    assert build(module_hub.api)["status"] == "COMPLETED"
    return module_hub


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"memory_gb": 1e300}, "memory_gb"),
        ({"memory_gb": 1e10}, "memory_gb"),
        ({"disk_size_gb": 1e300}, "disk_size_gb"),
        ({"cpu_cores": 1e300}, "cpu_cores"),
        ({"timeout_minutes": 10**400}, "timeout_minutes"),
        ({"idle_timeout_minutes": 10**400}, "idle_timeout_minutes"),
        ({"environment_vars": {"A=B": "x"}}, "'A=B' cannot be the name of a variable"),
        ({"secrets": {"": "x"}}, "'' cannot be the name of a variable"),
        ({"labels": ["a\0b"]}, "A NUL character cannot be in"),
        ({"start_command": ["echo", "\0"]}, "A NUL character cannot be in"),
    ],
)
def test_what_cannot_be_is_refused_at_once(ready: RunningHub, asked: dict[str, Any], sentence: str) -> None:
    answer = ready.api.post("/sandbox", json={"name": "odd", "docker_image": "tiny:latest", **asked})
    assert answer.status_code == 422 and sentence in answer.text, answer.text


def test_a_command_is_told_which_variable_cannot_be(ready: RunningHub) -> None:
    box = create(ready.api)
    answer = Gateway(ready, box["gatewayAuth"]).execute("true", env={"A=B": "x"})
    assert answer.status_code == 422
    assert answer.json()["detail"] == "env: 'A=B' cannot be the name of a variable; it must not be empty nor hold '='."
    ready.api.delete(f"/sandbox/{box['id']}")


def test_one_that_is_named_twice_is_ended_once(ready: RunningHub) -> None:
    box = create(ready.api)["id"]
    answer = ready.api.request("DELETE", "/sandbox", json={"sandbox_ids": [box, box, "none"]}).json()
    assert answer["succeeded"] == [box] and [item["sandbox_id"] for item in answer["failed"]] == ["none"]
    assert answer["message"] == "Deleted 1 of 2 sandboxes."


async def test_many_are_ended_at_once() -> None:
    """Each may take seconds to end, and a client waits for all of them."""
    together = asyncio.Barrier(8)

    async def end(account: Account, sandbox_id: str) -> None:
        await together.wait()
        if sandbox_id == "3":
            raise NotFound("There is none.")

    hub = cast("Hub", SimpleNamespace(sandboxes=SimpleNamespace(delete=end)))
    async with asyncio.timeout(60):
        answer = await delete_many(Account(), hub, ManyBody(sandbox_ids=[str(number) for number in range(8)]))
    assert answer["succeeded"] == [str(number) for number in range(8) if number != 3]
    assert answer["failed"] == [{"sandbox_id": "3", "error": "There is none."}]


SMALL = {"cpus": 0.5, "memory_bytes": 1 * GIB, "disk_bytes": None}
LARGE = {"cpus": 16.0, "memory_bytes": int(15.55 * GIB), "disk_bytes": 100 * GIB}


@pytest.mark.parametrize(
    ("asked", "machine", "said"),
    [
        (Limits(2, 4 * GIB, None, 10 * GIB), SMALL, None),  # what clients ask for by themselves
        (Limits(2.5), SMALL, "at most 2 processors for a sandbox, and 2.5 were asked for; ask for less: --cpus 2."),
        (Limits(None, 5 * GIB), SMALL, "at most 4 GiB of memory for a sandbox, and 5 were asked for"),
        (Limits(None, None, None, 10**6 * GIB), SMALL, None),  # nobody can say
        (Limits(16, 15 * GIB, None, 100 * GIB), LARGE, None),
        (Limits(None, 16 * GIB), LARGE, "at most 15.5 GiB of memory for a sandbox, and 16 were asked for"),
        (Limits(None, None, None, 101 * GIB), LARGE, "at most 100 GiB of disk for a sandbox, and 101 were asked for"),
        (Limits(10**6, 10**6 * GIB), {}, None),  # an older runner says nothing of its machine
    ],
)
def test_more_than_the_machine_has(asked: Limits, machine: dict[str, float | None], said: str | None) -> None:
    if said is None:
        require_on_machine(asked, machine)
        return
    with pytest.raises(Invalid) as refused:
        require_on_machine(asked, machine)
    assert said in refused.value.detail


def test_no_longer_than_the_hub_lets_one_live(tmp_path: Path) -> None:
    settings = Settings(tmp_path, max_sandbox_seconds=7200)
    assert lifetime(None, settings) == lifetime(7200, settings) == 7200 and lifetime(60, settings) == 60
    with pytest.raises(Invalid) as refused:
        lifetime(7201, settings)
    assert "at most 2 hours, and 2.00028 were asked for; ask for less: --timeout 120m." in refused.value.detail
