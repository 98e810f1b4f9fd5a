"""Evaluations that the Hub runs: asked for, played in sandboxes, kept, cancelled, and nobody's keys in what is kept."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import RunningHub
from tests.hub.browsing import Browser
from tests.hub.checking import CODE, gone, push_checkable
from tests.hub.team import make_team
from tests.support.openai_server import OpenAIServer, text

GOING = ("PENDING", "RUNNING")
KEY = "sk-of-the-lab-0123456789"


@pytest.fixture(scope="module")
def model() -> Iterator[OpenAIServer]:
    server = OpenAIServer()
    server.reply(lambda request: text(request["messages"][-1]["content"].split()[-1].strip(".")))
    yield server
    server.close()


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, model: OpenAIServer) -> Iterator[RunningHub]:
    """A Hub with an endpoint; accounts: its owner's alone, unless `bob` was added."""
    folder = tmp_path_factory.mktemp("lab")
    (folder / "key").write_text(f"{KEY}\n")
    (folder / "endpoints.toml").write_text(
        f'[[endpoint]]\nname = "lab"\nurl = "{model.url}"\nmodels = ["lab/echo"]\nkey_file = "{folder / "key"}"\n'
    )
    hub = RunningHub(folder / "hub", ("--model-endpoints", str(folder / "endpoints.toml")))
    yield hub
    hub.close()


def begin(client: httpx.Client, environment_id: str, model: str = "baseline/echo", **body: Any) -> httpx.Response:
    config = {"num_examples": 2, "rollouts_per_example": 2, **body.pop("config", {})}
    asked = {"environment_ids": [environment_id], "inference_model": model, "eval_config": config, **body}
    return client.post("/hosted-evaluations", json=asked)


def run(client: httpx.Client, environment_id: str, model: str = "baseline/echo", **body: Any) -> str:
    answer = begin(client, environment_id, model, **body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["evaluation_ids"] == [answer.json()["evaluation_id"]]
    return answer.json()["evaluation_id"]


def get(client: httpx.Client, one: str) -> dict[str, Any]:
    answer = client.get(f"/evaluations/{one}")
    assert answer.status_code == 200, answer.text
    return answer.json()


def logs(client: httpx.Client, one: str) -> str:
    answer = client.get(f"/hosted-evaluations/{one}/logs")
    assert answer.status_code == 200, answer.text
    return answer.json()["logs"]


def until(client: httpx.Client, one: str, *statuses: str) -> dict[str, Any]:
    """The evaluation, once it is in one of these statuses (default: one in which it has ended)."""
    end = time.monotonic() + 240
    found: dict[str, Any] = {}
    while time.monotonic() < end:
        found = get(client, one)
        if found["status"] in statuses or (not statuses and found["status"] not in GOING):
            return found
        time.sleep(0.2)
    raise AssertionError(f"it is {found['status']}: {logs(client, one)}")


def gated(gate: Path, examples: int = 1) -> str:
    """An environment whose rollouts after the first `examples` wait until the file is gone."""
    return CODE.replace(
        "def said(completion, answer, **kwargs):",
        "async def said(completion, answer, **kwargs):\n"
        "    import asyncio, os\n"
        f"    while int(answer) >= {examples} and os.path.exists({str(gate)!r}):\n"
        "        await asyncio.sleep(0.1)",
    )


def test_a_baseline_is_played_and_kept(module_hub: RunningHub) -> None:
    api = module_hub.api
    one = push_checkable(api, "plain")
    found = get(api, made := run(api, one.environment_id, name="the first", is_public=True))
    assert (found["is_hosted"], found["name"], found["model_name"]) == (True, "the first", "baseline/echo")
    assert found["status"] in GOING and found["environments"][0]["version"] == "0.1.0"
    found = until(api, made)
    assert (found["status"], found["error_message"]) == ("COMPLETED", None), logs(api, made)
    assert found["total_samples"] == 4 and found["metadata"]["num_examples"] == 2
    assert found["summary"]["num_rollouts"] == 4 and "reward" in found["metrics"], found
    samples = api.get(f"/evaluations/{made}/samples").json()["samples"]
    assert {(row["example_id"], row["rollout_index"]) for row in samples} == {(0, 0), (0, 1), (1, 0), (1, 1)}
    assert "Installing" in logs(api, made)
    gone(module_hub)


def test_a_model_is_asked_with_the_operators_key_which_is_in_nothing_that_is_kept(
    lab: RunningHub, model: OpenAIServer
) -> None:
    api = lab.api
    telling = CODE.replace(
        "def load_environment():",
        "def load_environment():\n    import os\n    print('telling', os.environ['PRIME_HOSTED_MODEL_KEY'], "
        "os.environ['A_SECRET'], os.environ['A_VARIABLE'], flush=True)",
    ).replace('"answer": str(number)', '"answer": str(number), "info": {"key": __import__("os").environ["A_SECRET"]}')
    one = push_checkable(api, "telling", telling)
    base = f"/environmentshub/{one.environment_id}"
    assert api.post(f"{base}/secrets", json={"name": "A_SECRET", "value": "very-secret-value"}).is_success
    assert api.post(f"{base}/variables", json={"name": "A_VARIABLE", "value": "a-variables-value"}).is_success
    made = run(api, one.environment_id, "lab/echo")
    found = until(api, made)
    assert (found["status"], found["avg_reward"]) == ("COMPLETED", 1.0), logs(api, made)
    assert {request["headers"]["Authorization"] for request in model.requests} == {f"Bearer {KEY}"}
    assert "telling [hidden] [hidden]" in logs(api, made)
    kept = logs(api, made) + api.get(f"/evaluations/{made}/samples").text + api.get(f"/evaluations/{made}").text
    kept += lab.log
    assert KEY not in kept and "very-secret-value" not in kept
    for table in ("hosted_runs", "evaluations", "jobs"):
        assert KEY not in str(lab.sql(f"SELECT * FROM {table}"))
    gone(lab)


def test_who_may_ask_and_for_which_model(lab: RunningHub) -> None:
    api = lab.api
    one = push_checkable(api, "whose")
    refused = begin(api, one.environment_id, "lab/other")
    assert refused.status_code == 422 and "use lab/echo, or a baseline" in refused.json()["detail"]
    stranger = lab.client(lab.add_user("stranger"))
    assert begin(stranger, one.environment_id).status_code == 403
    assert begin(lab.client(), one.environment_id).status_code == 401
    token = api.post("/tokens", json={"name": "narrow", "scopes": {"evaluations": "write"}}).json()["data"]["token"]
    narrow = begin(lab.client(token), one.environment_id)
    assert narrow.status_code == 403 and "environments:write" in narrow.json()["detail"]


def test_without_an_endpoint_a_sentence_says_how_to_name_one(module_hub: RunningHub) -> None:
    one = push_checkable(module_hub.api, "no-endpoint")
    refused = begin(module_hub.api, one.environment_id, "openai/gpt-4.1-mini")
    assert refused.status_code == 422 and "--model-endpoints FILE" in refused.json()["detail"]
    for config, said in (
        ({"num_examples": 0}, "eval_config.num_examples must be a number from 1"),
        ({"api_base_url": "http://x"}, "asks only the endpoints that this Hub's operator has named"),
        ({"no_such": 1}, "knows no eval_config.no_such"),
        ({"allow_instances_access": True}, "no instances"),
        ({"env_args": []}, "must be a JSON object"),
    ):
        answer = begin(module_hub.api, one.environment_id, config=config)
        assert answer.status_code == 422 and said in answer.json()["detail"], answer.text


def test_what_cannot_be_loaded_has_failed_and_the_log_says_why(module_hub: RunningHub) -> None:
    api = module_hub.api
    one = push_checkable(api, "broken", "raise RuntimeError('broken on purpose')\n")
    found = until(api, made := run(api, one.environment_id))
    assert found["status"] == "FAILED" and "exit code 1" in found["error_message"], found
    assert "broken on purpose" in logs(api, made) and found["summary"] is None
    gone(module_hub)


def test_cancelling_keeps_what_is_played(module_hub: RunningHub, tmp_path: Path) -> None:
    api = module_hub.api
    gate = tmp_path / "gate"
    gate.touch()
    one = push_checkable(api, "cancelled", gated(gate))
    made = run(api, one.environment_id, config={"num_examples": 4, "rollouts_per_example": 1, "max_concurrent": 2})
    end = time.monotonic() + 120
    while get(api, made)["total_samples"] < 1 and time.monotonic() < end:
        time.sleep(0.1)
    found = get(api, made)
    assert (found["status"], found["total_samples"]) == ("RUNNING", 1), logs(api, made)
    answer = api.patch(f"/hosted-evaluations/{made}/cancel")
    assert "is ending" in answer.json()["message"], answer.text
    while "The run is being ended (SIGINT)" not in logs(api, made):
        time.sleep(0.1)
    gate.unlink()
    found = until(api, made)
    assert (found["status"], found["error_message"]) == ("CANCELLED", "It was cancelled."), found
    assert 1 <= found["total_samples"] < 4 and found["summary"]["num_rollouts"] == found["total_samples"]
    assert "has ended already" in api.patch(f"/hosted-evaluations/{made}/cancel").json()["message"]
    push = api.post(f"/evaluations/{made}/samples", json={"samples": [{"example_id": 9, "reward": 1.0}]})
    assert push.status_code == 409 and "has run itself" in push.json()["detail"]
    gone(module_hub)


def test_deleting_it_ends_it(module_hub: RunningHub, tmp_path: Path) -> None:
    api = module_hub.api
    gate = tmp_path / "gate"
    gate.touch()
    one = push_checkable(api, "deleted", gated(gate, 0))
    made = run(api, one.environment_id)
    until(api, made, "RUNNING")
    assert api.delete(f"/evaluations/{made}").is_success
    gone(module_hub)
    assert module_hub.sql("SELECT count(*) FROM hosted_runs WHERE evaluation_id = :one", one=made)[0][0] == 0


def test_a_hub_that_is_killed_in_the_middle_plays_it_again_and_doubles_nothing(hub: RunningHub) -> None:
    gate = hub.data_dir.with_name("gate")
    gate.touch()
    one = push_checkable(hub.api, "killed", gated(gate))
    made = run(hub.api, one.environment_id, config={"num_examples": 4})
    end = time.monotonic() + 120
    while get(hub.api, made)["total_samples"] < 2 and time.monotonic() < end:
        time.sleep(0.1)
    assert get(hub.api, made)["total_samples"] == 2
    hub.kill()
    hub.close_clients()
    gate.unlink()
    hub.start()
    found = until(hub.api, made)
    assert (found["status"], found["total_samples"]) == ("COMPLETED", 8), logs(hub.api, made)
    assert found["summary"]["num_rollouts"] == 8 and "begins anew" in logs(hub.api, made)
    assert hub.sql("SELECT attempt, state FROM jobs WHERE kind = 'evaluation'")[0][:] == (2, "done")
    gone(hub)


def test_a_runner_that_is_killed_in_the_middle_gives_it_back(hub: RunningHub) -> None:
    gate = hub.data_dir.with_name("gate")
    gate.touch()
    one = push_checkable(hub.api, "orphaned", gated(gate))
    made = run(hub.api, one.environment_id, config={"num_examples": 2, "rollouts_per_example": 1})
    end = time.monotonic() + 120
    while get(hub.api, made)["total_samples"] < 1 and time.monotonic() < end:
        time.sleep(0.1)
    pid = hub.runner_pid
    assert pid is not None
    gate.unlink()
    os.kill(pid, signal.SIGKILL)
    found = until(hub.api, made)
    assert (found["status"], found["total_samples"]) == ("COMPLETED", 2), logs(hub.api, made)
    gone(hub)


def test_its_time_is_limited(hub: RunningHub) -> None:
    gate = hub.data_dir.with_name("gate")
    gate.touch()
    one = push_checkable(hub.api, "late", gated(gate))
    made = run(hub.api, one.environment_id, config={"num_examples": 3, "max_concurrent": 1, "timeout_minutes": 7})
    assert hub.sql("SELECT seconds FROM hosted_runs")[0][0] == 420.0
    until(hub.api, made, "RUNNING")
    hub.kill()  # the minutes of a test are seconds
    hub.close_clients()
    hub.sql("UPDATE hosted_runs SET seconds = 8 WHERE evaluation_id = :one", one=made)
    hub.start()
    end = time.monotonic() + 180
    while "begins anew" not in logs(hub.api, made) and time.monotonic() < end:
        time.sleep(0.1)
    found = until(hub.api, made)
    assert (found["status"], found["error_message"][:19]) == ("TIMEOUT", "It took longer than"), found
    gone(hub)


def test_of_a_team(module_hub: RunningHub) -> None:
    team = make_team(module_hub, "runners")
    olga, stan = team["olga"], team["stan"]
    one = push_checkable(olga, "of-olga")
    made = run(olga, one.environment_id, team_id="runners")
    assert until(olga, made)["owner"]["name"] == "runners"
    member = next(name for name in team.people if name not in ("olga", "stan"))
    assert "Installing" in logs(team[member], made)
    assert stan.get(f"/hosted-evaluations/{made}/logs").status_code == 404
    assert stan.patch(f"/hosted-evaluations/{made}/cancel").status_code == 404
    secret = {"name": "A_SECRET", "value": "olgas-own-secret"}
    assert olga.post(f"/environmentshub/{one.environment_id}/secrets", json=secret).is_success
    found = until(olga, run(olga, one.environment_id, team_id="runners"))
    assert found["status"] == "FAILED" and "that are not runners's" in found["error_message"], found


def test_a_public_ones_log_is_its_owners(module_hub: RunningHub) -> None:
    one = push_checkable(module_hub.api, "shown")
    made = run(module_hub.api, one.environment_id, is_public=True)
    until(module_hub.api, made)
    nobody = module_hub.client()
    assert get(nobody, made)["is_hosted"] is True
    refused = nobody.get(f"/hosted-evaluations/{made}/logs")
    assert refused.status_code == 403 and f"is for {module_hub.owner} only" in refused.json()["detail"]
    assert "Installing" not in Browser(module_hub).get(f"/dashboard/evaluations/{made}").text


def test_its_page_has_its_log_and_a_button_that_ends_it(module_hub: RunningHub, tmp_path: Path) -> None:
    api = module_hub.api
    gate = tmp_path / "gate"
    gate.touch()
    browser = Browser(module_hub)
    link = api.post("/user/sign-in-link").json()["data"]
    assert browser.get(f"{link['path']}?code={link['code']}").status == 200
    one = push_checkable(api, "paged", gated(gate, 0))
    made = run(api, one.environment_id)
    until(api, made, "RUNNING")
    place = f"/dashboard/evaluations/{made}"
    shown = browser.get(place)
    assert "This Hub runs it itself; it is playing now" in shown.text and "Installing" in shown.text
    assert "prime eval push DIR" not in shown.text
    answer = browser.submit(shown, f"{place}/cancel")
    assert "The run is ending." in answer.text
    gate.unlink()
    assert until(api, made)["status"] == "CANCELLED"
    assert not [form for form in browser.get(place).forms if form.action.endswith("/cancel")]
    pushed = api.post("/evaluations/", json={"name": "pushed"}).json()["evaluation_id"]
    for answer in (api.get(f"/hosted-evaluations/{pushed}/logs"), api.patch(f"/hosted-evaluations/{pushed}/cancel")):
        assert answer.status_code == 422 and "was pushed, and not run by this Hub" in answer.json()["detail"]
