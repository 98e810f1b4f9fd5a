"""What an operator sees: request ids in answers and logs, logs as JSON, metrics, whether the Hub lives and is ready."""

from __future__ import annotations

import json
import re
import socket
import time
import urllib.request
from typing import Any

import pytest

from tests.conftest import RunningHub
from tests.hub.pushing import push


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Any:
    hub = RunningHub(tmp_path_factory.mktemp("hub") / "hub", ("--metrics", "0", "--log-format", "json"))
    yield hub
    hub.close()


def metrics(hub: RunningHub) -> dict[str, float]:
    """Every sample by its name with labels."""
    found = re.search(r"^Metrics (http://127\.0\.0\.1:\d+/metrics)$", hub.log, re.MULTILINE)
    assert found, hub.log
    with urllib.request.urlopen(found[1], timeout=30) as answer:
        text = answer.read().decode()
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}


def lines(hub: RunningHub) -> list[dict[str, Any]]:
    """The log without what is written for the terminal."""
    return [json.loads(line) for line in hub.log.split("\n")[:-1] if line.startswith("{")]


def logged(hub: RunningHub, *ids: str) -> dict[str, dict[str, Any]]:
    """The lines by request id, once those of `ids` are there: a line is written when the answer has been sent."""
    end = time.monotonic() + 30
    while True:
        by_id = {line.get("request_id", ""): line for line in lines(hub)}
        if set(ids) <= by_id.keys() or time.monotonic() > end:
            return by_id
        time.sleep(0.05)


def test_a_request_has_an_id_that_its_answer_and_its_log_line_tell(watched: RunningHub) -> None:
    client = watched.client(watched.token)
    own = client.get("/user/whoami").headers["x-request-id"]
    given = client.get("/user/whoami", headers={"X-Request-ID": "build-17.a_b"}).headers["x-request-id"]
    assert re.fullmatch(r"[0-9a-f]{32}", own) and given == "build-17.a_b"
    by_id = logged(watched, own, given)
    assert by_id[own]["path"] == "/api/v1/user/whoami" and by_id[given]["status"] == 200
    assert by_id[own]["method"] == "GET" and by_id[own]["milliseconds"] >= 0 and by_id[own]["level"] == "info"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", by_id[own]["time"])
    assert all(set(line) >= {"time", "level", "logger", "message"} for line in by_id.values())


@pytest.mark.parametrize("odd", ["a b", "x" * 65, "{}", "ä".encode()])
def test_an_id_that_is_not_plain_is_not_taken(watched: RunningHub, odd: Any) -> None:
    answer = watched.client().get("/health", headers={"X-Request-ID": odd})
    assert re.fullmatch(r"[0-9a-f]{32}", answer.headers["x-request-id"])


def test_refusals_have_one_too(watched: RunningHub) -> None:
    client = watched.client()
    for path in ("/user/whoami", "/nothing", "/environmentshub/a/b/@latest"):
        answer = client.get(path)
        assert answer.status_code >= 400 and answer.headers["x-request-id"], path


def test_a_failure_names_the_request_and_the_log_says_why(tmp_path: Any) -> None:
    hub = RunningHub(tmp_path / "hub", ("--log-format", "json"))
    try:
        hub.sql("ALTER TABLE accounts RENAME TO gone")
        answer = hub.client(hub.token).get("/user/whoami", headers={"X-Request-ID": "it-fails"})
        ready = hub.client().get(f"{hub.url}/readyz")
        lives = hub.client().get(f"{hub.url}/livez")
        hub.sql("ALTER TABLE gone RENAME TO accounts")
        assert answer.status_code == 500 and answer.headers["x-request-id"] == "it-fails"
        assert answer.json()["detail"].startswith("The Hub failed on this request (it-fails);")
        (line,) = [line for line in lines(hub) if line.get("request_id") == "it-fails" and line["level"] == "error"]
        assert "accounts" in line["message"] and "Traceback" in line["error"]
        # Not ready, and alive: it is not started again because its database fails.
        assert ready.status_code == 503 and lives.status_code == 200
        assert ready.json()["database"].startswith("failed (") and ready.json()["blobs"] == "ok"
        assert hub.client().get(f"{hub.url}/readyz").status_code == 200
    finally:
        hub.close()


def test_the_runner_logs_in_the_same_form_and_names_the_request(watched: RunningHub) -> None:
    watched.wait_for_runner()
    told = [json.loads(line) for line in (watched.data_dir / "runner" / "runner.log").read_text().splitlines()]
    assert told and all(line["logger"].startswith("prime_hub") for line in told)


def test_metrics_count_requests_by_route_and_what_the_hub_holds(watched: RunningHub) -> None:
    before = metrics(watched)
    push(watched.api, "secret-name")
    watched.client().get("/environmentshub/nobody/secret-name/@latest")
    watched.client().get("/no/such/route")
    end, after = time.monotonic() + 30, metrics(watched)
    # A request is counted when its answer has been sent, so whoever has it may come before that.
    while not any('route="other"' in name for name in after) and time.monotonic() < end:
        time.sleep(0.05)
        after = metrics(watched)

    def grown(name: str) -> float:
        return after.get(name, 0.0) - before.get(name, 0.0)

    assert grown("prime_hub_environments") == grown("prime_hub_versions") == 1 and after["prime_hub_accounts"] >= 1
    found = [name for name in after if name.startswith("prime_hub_request_seconds_count") and 'status="404"' in name]
    assert any('route="other"' in name for name in found) and any("{owner}" in name for name in found)
    assert not any("secret-name" in name or "nobody" in name for name in after)
    info = next(name for name in after if name.startswith("prime_hub_info"))
    assert watched.address["hub_id"] in info and after[info] == 1
    assert "process_cpu_seconds_total" in after


def test_metrics_tell_whether_the_runner_answers(watched: RunningHub) -> None:
    watched.wait_for_runner()
    assert metrics(watched)["prime_hub_runner_up"] == 1


def test_without_the_option_nothing_is_measured_and_nothing_listens(hub: RunningHub) -> None:
    assert "Metrics http" not in hub.log
    assert hub.client().get(f"{hub.url}/metrics").status_code == 404


def test_a_port_that_is_taken_costs_the_metrics_only(tmp_path: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
        hub = RunningHub(tmp_path / "hub", ("--metrics", f"127.0.0.1:{port}"))
        try:
            assert f"The metrics cannot listen on 127.0.0.1 port {port}" in hub.log
            assert hub.client().get(f"{hub.url}/readyz").status_code == 200
        finally:
            hub.close()


def test_it_lives_and_is_ready(watched: RunningHub) -> None:
    client = watched.client()
    assert client.get(f"{watched.url}/livez").json() == {"status": "ok"}
    answer = client.get(f"{watched.url}/readyz")
    told = answer.json()
    assert answer.status_code == 200 and (told["status"], told["database"], told["blobs"]) == ("ok", "ok", "ok")
    assert told["runner"]["state"] and answer.headers["cache-control"] == "no-store"
