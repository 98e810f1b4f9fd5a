"""Evaluations: pushed in batches, finalised, read again; what a repeat changes; who sees them; what deleting leaves."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.conftest import RunningHub
from tests.hub.pushing import push
from tests.support.databases import everything


@pytest.fixture(scope="module")
def people(module_hub: RunningHub) -> dict[str, httpx.Client]:
    """An owner with an environment, and a stranger."""
    clients = {name: module_hub.client(module_hub.add_user(name)) for name in ("olga", "stan")}
    push(clients["olga"], "evald-env")
    push(clients["olga"], "evald-env", "0.2.0")
    return clients | {"nobody": module_hub.client()}


def row(example: Any, index: int | None, reward: float | None, **more: Any) -> dict[str, Any]:
    """A row of results.jsonl."""
    found = {
        "example_id": example,
        "prompt": [{"role": "system", "content": "Be short."}, {"role": "user", "content": f"question {example}"}],
        "completion": [{"role": "assistant", "content": f"answer {example}-{index}"}],
        "answer": "42",
        "reward": reward,
        "error": None,
        "metrics": {"exact": reward},
        "timing": {"total": 0.5},
        "token_usage": {"input_tokens": 10, "output_tokens": 5},
        "is_truncated": False,
        "stop_condition": "done",
        **more,
    }
    return found if index is None else {**found, "rollout_index": index}


def begin(client: httpx.Client, **more: Any) -> str:
    """A new evaluation's id."""
    body = {"name": "n", "environments": [{"slug": "olga/evald-env"}], "model_name": "m", "framework": "verifiers"}
    made = client.post("/evaluations/", json=body | more)
    assert made.status_code == 200, made.text
    return made.json()["evaluation_id"]


def send(client: httpx.Client, one: str, samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    sent = client.post(f"/evaluations/{one}/samples", json={"samples": samples})
    assert sent.status_code == 200, sent.text
    return sent.json()


def finish(client: httpx.Client, one: str) -> dict[str, Any]:
    done = client.post(f"/evaluations/{one}/finalize", json={})
    assert done.status_code == 200, done.text
    return done.json()


def pushed(client: httpx.Client, samples: Sequence[dict[str, Any]], **more: Any) -> str:
    one = begin(client, **more)
    send(client, one, samples)
    finish(client, one)
    return one


RUN = [row(example, index, float((example + index) % 2)) for example in range(4) for index in range(2)]


def test_a_run_is_pushed_and_read_again(people: dict[str, httpx.Client]) -> None:
    olga = people["olga"]
    one = begin(
        olga, metadata={"pass_threshold": 0.5, "version_info": {"env_version": "0.1.0"}}, metrics={"reward": 0.5}
    )
    assert send(olga, one, RUN)["total"] == 8
    told = olga.get(f"/evaluations/{one}").json()
    assert (told["status"], told["summary"], told["completed_at"]) == ("RUNNING", None, None)
    told = finish(olga, one)
    assert (told["status"], told["total_samples"], told["avg_reward"]) == ("COMPLETED", 8, 0.5)
    assert told["environment_names"] == ["olga/evald-env"] and told["environments"][0]["version"] == "0.1.0"
    assert told["metrics"] == {"reward": 0.5} and told["viewer_url"].endswith(f"/dashboard/evaluations/{one}")
    summary = told["summary"]
    assert (summary["num_rollouts"], summary["num_scored"], summary["num_examples"]) == (8, 8, 4)
    assert summary["pass_at_k"]["2"]["value"] == 1.0 and summary["pass_all_k"]["2"]["value"] == 0.0
    assert summary["metrics"]["exact"]["value"] == 0.5 and summary["amounts"]["output_tokens"]["total"] == 40
    page = olga.get(f"/evaluations/{one}/samples", params={"page": 2, "limit": 3}).json()
    assert (page["total"], page["page"], page["limit"]) == (8, 2, 3)
    assert page["samples"] == RUN[3:6], "as they were sent"
    rows = olga.get(f"/evaluations/{one}/samples", params={"summary": True, "sort": "reward", "order": "desc"}).json()
    assert [one["reward"] for one in rows["samples"]] == [1.0] * 4 + [0.0] * 4
    first = rows["samples"][0]
    assert (first["prompt"], first["turns"], first["seconds"]) == (f"question {first['example_id']}", 1, 0.5)
    whole = olga.get(f"/evaluations/{one}/samples/{first['sample_id']}").json()
    assert whole["reward"] == 1.0 and str(whole["example_id"]) == first["example_id"]
    listing = olga.get("/evaluations/", params={"environment_name": "olga/evald-env"}).json()
    assert one in [found["evaluation_id"] for found in listing["evaluations"]]


def test_batches_in_any_order_and_twice(people: dict[str, httpx.Client]) -> None:
    olga = people["olga"]
    run = [row(example, index, 1.0, note="x" * 500) for example in range(40) for index in range(5)]
    one = begin(olga)
    batches = [run[start : start + 20] for start in range(0, 200, 20)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda batch: send(olga, one, batch), [*reversed(batches), *batches[:4]]))
    assert finish(olga, one)["total_samples"] == 200
    assert olga.get(f"/evaluations/{one}/samples", params={"limit": 300}).json()["samples"] == run


def test_a_push_anew_replaces(people: dict[str, httpx.Client], module_hub: RunningHub) -> None:
    olga = people["olga"]
    run = [{**found, "note": "of this test only"} for found in RUN]
    one = pushed(olga, run)
    ids = [found["sample_id"] for found in _rows(olga, one)]
    blobs = _blobs(module_hub)
    assert olga.put(f"/evaluations/{one}", json={"name": "again", "model_name": "m2"}).status_code == 200
    better = [{**found, "reward": 1.0} for found in run[:6]]
    send(olga, one, better)
    told = finish(olga, one)
    assert (told["total_samples"], told["avg_reward"], told["name"], told["model_name"]) == (6, 1.0, "again", "m2")
    assert [found["sample_id"] for found in _rows(olga, one)] == ids[:6], "links to rollouts stay"
    assert len(_blobs(module_hub)) == len(blobs), "the bytes of the former samples are gone"
    told = finish(olga, one)
    assert told["total_samples"] == 6, "what is finalised again stays"


def test_the_same_push_anew_keeps_everything(people: dict[str, httpx.Client]) -> None:
    olga = people["olga"]
    one = pushed(olga, RUN)
    assert olga.put(f"/evaluations/{one}", json={"name": "n"}).status_code == 200
    send(olga, one, RUN)
    assert finish(olga, one)["total_samples"] == 8
    assert olga.get(f"/evaluations/{one}/samples").json()["samples"] == RUN


def test_a_push_that_was_cut_goes_on(people: dict[str, httpx.Client]) -> None:
    olga = people["olga"]
    one = begin(olga)
    send(olga, one, RUN[:4])
    send(olga, one, RUN[:4])
    assert send(olga, one, RUN[4:])["total"] == 8
    assert finish(olga, one)["total_samples"] == 8


def test_samples_without_an_index_are_counted_as_they_come(people: dict[str, httpx.Client]) -> None:
    olga = people["olga"]
    run = [row(example, None, float(number), note=number) for example in ("a", "b") for number in range(3)]
    one = begin(olga)
    send(olga, one, run[:4])
    send(olga, one, run[:4])  # a request that was sent again
    send(olga, one, run[4:])
    assert finish(olga, one)["total_samples"] == 6
    assert [found["rollout_index"] for found in _rows(olga, one)] == [0, 1, 2, 0, 1, 2]
    assert olga.put(f"/evaluations/{one}", json={}).status_code == 200
    send(olga, one, [{**found, "reward": 9.0} for found in run])
    told = finish(olga, one)
    assert (told["total_samples"], told["avg_reward"]) == (6, 9.0)


def test_other_peoples_rows(people: dict[str, httpx.Client]) -> None:
    """Nothing in a sample is certain."""
    olga = people["olga"]
    one = begin(olga)
    odd = (
        '{"samples": [{"example_id": "x\\u0000\\ud83d", "reward": NaN, "completion": "a\\u0000\\nb", "x": 1e999},'
        '{"id": 7, "score": true, "acc": 0.25, "error": "Boom(now)", "prompt": "p", "timing": {"total_ms": 1500}},'
        '{"example_id": {"a": 1}, "rollout_index": -3, "reward": "high", "metrics": [1], "error": {"error": 3}},'
        '{"reward": 99999999999999999999999999999999, "completion": [null, {"role": "assistant", "content": [{"text": "t"}]}]}]}'
    )
    sent = olga.post(f"/evaluations/{one}/samples", content=odd, headers={"Content-Type": "application/json"})
    assert sent.status_code == 200, sent.text
    told = finish(olga, one)
    assert (told["summary"]["num_scored"], told["summary"]["num_errors"]) == (2, 2)
    rows = {found["example_id"]: found for found in _rows(olga, one)}
    assert rows["7"]["metrics"] == {"acc": 0.25} and (rows["7"]["error"], rows["7"]["seconds"]) == ("Boom", 1.5)
    assert rows["7"]["reward"] == 1.0 and rows["3"]["completion"] == "t"
    whole = olga.get(f"/evaluations/{one}/samples").json()["samples"]
    assert {found.get("reward") for found in whole} == {None, "high", 99999999999999999999999999999999}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"[]", 'Send the samples as {"samples": [...]}'),
        (b'{"samples": 3}', 'Send the samples as {"samples": [...]}'),
        (b'{"samples": [3]}', "Sample 0 of the request is not a JSON object"),
        (b"{", "is not JSON that this Hub can read"),
        (b"\xff\xfe", "is not JSON that this Hub can read"),
    ],
)
def test_what_is_no_batch(people: dict[str, httpx.Client], body: bytes, words: str) -> None:
    olga = people["olga"]
    one = begin(olga)
    refused = olga.post(f"/evaluations/{one}/samples", content=body)
    assert refused.status_code == 422 and words in refused.json()["detail"]
    assert olga.get(f"/evaluations/{one}").json()["total_samples"] == 0


def test_a_batch_as_large_as_the_official_client_makes_it(people: dict[str, httpx.Client]) -> None:
    olga = people["olga"]
    one = begin(olga)
    big = [row(example, 0, 1.0, blob="y" * 1_000_000) for example in range(25)]
    assert send(olga, one, big)["total"] == 25
    refused = olga.post(f"/evaluations/{one}/samples", json={"samples": [{"example_id": 1, "x": "z" * 33 * 2**20}]})
    assert refused.status_code == 413 and refused.json()["detail"].endswith(".")
    page = olga.get(f"/evaluations/{one}/samples", params={"limit": 20}).json()
    assert len(page["samples"]) == 20
    send(olga, one, [row(example, 0, 1.0, blob="y" * 1_000_000) for example in range(25, 51)])
    refused = olga.get(f"/evaluations/{one}/samples", params={"limit": 60})
    assert refused.status_code == 413 and "ask for fewer at once with limit" in refused.json()["detail"]


def test_filters(people: dict[str, httpx.Client]) -> None:
    olga = people["olga"]
    failed = {"error": {"error": "SandboxLost", "message": "gone"}}
    run = [row(1, 0, 1.0), row(2, 0, 0.0), row(3, 0, None, **failed), row(4, 0, 0.7, is_truncated=True)]
    one = pushed(olga, run)

    def examples(**asked: Any) -> list[str]:
        found = olga.get(f"/evaluations/{one}/samples", params={"summary": True, **asked})
        return [one["example_id"] for one in found.json()["samples"]]

    assert examples(outcome="passed") == ["1", "4"] and examples(outcome="failed") == ["2"]
    assert examples(outcome="error") == examples(outcome="unscored") == examples(error="SandboxLost") == ["3"]
    assert examples(outcome="truncated") == ["4"] and examples(example_id="2") == ["2"]
    assert examples(sort="reward") == ["2", "4", "1", "3"] and examples(order="desc") == ["4", "3", "2", "1"]
    told = olga.get(f"/evaluations/{one}").json()["summary"]
    assert told["errors"] == [{"error": "SandboxLost", "count": 1, "message": "gone"}]
    refused = olga.get(f"/evaluations/{one}/samples", params={"sort": "colour"})
    assert refused.status_code == 422 and "cannot sort samples by 'colour'" in refused.json()["detail"]


def test_who_sees_it(people: dict[str, httpx.Client], module_hub: RunningHub) -> None:
    olga, stan, nobody = people["olga"], people["stan"], people["nobody"]
    one = pushed(olga, RUN)
    addresses = [f"/evaluations/{one}", f"/evaluations/{one}/samples"]
    for client in (stan, nobody):
        assert [client.get(address).status_code for address in addresses] == [404, 404]
        assert one not in json.dumps(client.get("/evaluations/").json())
    assert olga.patch(f"/evaluations/{one}", json={"is_public": True}).json()["is_public"] is True
    for client in (stan, nobody):
        assert [client.get(address).status_code for address in addresses] == [200, 200]
        assert one in json.dumps(client.get("/evaluations/").json())
    for method, address in (("PUT", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "/samples"), ("POST", "/finalize")):
        answer = stan.request(method, f"/evaluations/{one}{address}", json={"samples": []})
        assert answer.status_code == 403 and "is olga's" in answer.json()["detail"], answer.text
        assert nobody.request(method, f"/evaluations/{one}{address}", json={"samples": []}).status_code == 401
    again = olga.put(f"/evaluations/{one}", json={"is_public": False})
    assert again.status_code == 200 and stan.get(addresses[0]).status_code == 404
    unfinished = begin(olga, is_public=True)
    assert stan.get(f"/evaluations/{unfinished}").status_code == 404, "before it is finalised"


def test_an_environment_that_is_closed_or_gone_closes_its_evaluations(people: dict[str, httpx.Client]) -> None:
    olga, stan = people["olga"], people["stan"]
    push(olga, "fleeting-env")
    mine = pushed(olga, RUN, environments=[{"slug": "olga/fleeting-env"}], is_public=True)
    his = pushed(stan, RUN, environments=[{"slug": "olga/fleeting-env"}], is_public=True)
    assert stan.get(f"/evaluations/{mine}").status_code == 200
    assert olga.patch("/environmentshub/olga/fleeting-env", json={"visibility": "PRIVATE"}).is_success
    assert stan.get(f"/evaluations/{mine}").status_code == 404 and olga.get(f"/evaluations/{his}").status_code == 200
    told = stan.get(f"/evaluations/{his}").json()
    assert told["environment_names"] == [], "his own, which tells of nothing that is private now"
    assert olga.delete("/environmentshub/olga/fleeting-env").is_success
    assert olga.get(f"/evaluations/{his}").status_code == 404
    assert olga.get(f"/evaluations/{mine}").json()["environment_names"] == []
    refused = begin_refused(stan, environments=[{"slug": "olga/fleeting-env"}])
    assert refused.status_code == 404 and "There is no environment" in refused.json()["detail"]
    assert begin_refused(stan, environments=[{"id": "0" * 24}]).status_code == 404


def begin_refused(client: httpx.Client, **more: Any) -> httpx.Response:
    return client.post("/evaluations/", json={"name": "n", **more})


def test_of_a_team(people: dict[str, httpx.Client], module_hub: RunningHub) -> None:
    olga, stan = people["olga"], people["stan"]
    mel = module_hub.client(module_hub.add_user("mel"))
    assert olga.post("/teams", json={"slug": "raters", "name": "Raters"}).is_success
    for name in ("stan", "mel"):
        assert olga.post("/teams/raters/members", json={"user": name}).is_success
    one = pushed(stan, RUN, team_id="raters")
    told = mel.get(f"/evaluations/{one}").json()
    assert (told["owner"]["name"], told["user"]) == ("raters", "stan")
    assert mel.get("/evaluations/", params={"team_id": "raters"}).json()["total"] == 1
    refused = mel.delete(f"/evaluations/{one}")
    assert refused.status_code == 403 and "only who pushed it, and a team's admins" in refused.json()["detail"]
    refused = olga.delete("/teams/raters")
    assert refused.status_code == 409 and "raters still has evaluations" in refused.json()["detail"]
    assert olga.delete(f"/evaluations/{one}").status_code == 204
    assert begin_refused(people["nobody"]).status_code == 401
    assert begin_refused(stan, team_id="no-team").status_code == 404
    assert people["nobody"].get("/evaluations/", params={"team_id": "raters"}).status_code == 404


def test_lists(people: dict[str, httpx.Client]) -> None:
    olga, stan = people["olga"], people["stan"]
    hers = pushed(olga, RUN, is_public=True, model_name="of-lists")
    his = pushed(stan, RUN, model_name="of-lists")

    def listed(client: httpx.Client, **asked: Any) -> list[str]:
        found = client.get("/evaluations/", params={"model_name": "of-lists", **asked}).json()
        assert found["total"] == len(found["evaluations"])
        return [one["evaluation_id"] for one in found["evaluations"]]

    assert listed(stan) == [his, hers] and listed(olga) == [hers] == listed(people["nobody"])
    assert listed(stan, mine_only=True) == [his] and listed(people["nobody"], mine_only=True) == []
    assert listed(stan, owner="olga", environment_name="evald-env") == [hers]
    assert listed(stan, environment_name="stan/evald-env") == []


def test_deleting_leaves_nothing(people: dict[str, httpx.Client], module_hub: RunningHub) -> None:
    olga = people["olga"]
    before = _blobs(module_hub)
    one = pushed(olga, [row(1, 0, 1.0, note="a-mark-of-its-own")], name="to-be-deleted")
    other = pushed(olga, [row(1, 0, 1.0, note="a-mark-of-its-own")])
    assert len(_blobs(module_hub)) == len(before) + 1, "the same bytes are stored once"
    assert olga.delete(f"/evaluations/{one}").status_code == 204
    assert olga.get(f"/evaluations/{other}/samples").json()["total"] == 1
    assert olga.delete(f"/evaluations/{one}").status_code == 404
    assert olga.delete(f"/evaluations/{other}").status_code == 204
    assert _blobs(module_hub) == before
    assert "to-be-deleted" not in everything(module_hub.data_dir)


def test_usage_counts_it_once(people: dict[str, httpx.Client]) -> None:
    olga = people["olga"]
    push(olga, "counted-env")
    push(olga, "counted-env", "0.2.0")
    one = pushed(olga, RUN, environments=[{"slug": "olga/counted-env", "version": "0.1"}])
    finish(olga, one)
    pushed(olga, RUN, environments=[{"slug": "olga/counted-env"}])
    begin(olga, environments=[{"slug": "olga/counted-env"}])
    told = olga.get("/environmentshub/olga/counted-env/usage").json()["data"]
    assert told["totals"]["all_time"]["evaluations"] == 2
    assert {found["version"]: found["all_time"]["evaluations"] for found in told["versions"]} == {
        "0.1.0": 1,
        "0.2.0": 1,
    }


def test_scopes(people: dict[str, httpx.Client], module_hub: RunningHub) -> None:
    olga = people["olga"]
    one = pushed(olga, RUN)

    def keyed(**scopes: str) -> httpx.Client:
        made = olga.post("/tokens", json={"name": "scoped", "scopes": scopes}).json()["data"]
        return module_hub.client(made["token"])

    reader, writer, other = keyed(evaluations="read"), keyed(evaluations="write"), keyed(environments="write")
    page = f"{module_hub.url}/dashboard/evaluations/{one}"
    assert reader.get(f"/evaluations/{one}").status_code == 200 and reader.get(page).status_code == 200
    assert reader.patch(f"/evaluations/{one}", json={"name": "x"}).status_code == 403
    assert writer.patch(f"/evaluations/{one}", json={"name": "x"}).status_code == 200
    assert [other.get(f"/evaluations/{one}").status_code, other.get(page).status_code] == [403, 403]


def _rows(client: httpx.Client, one: str) -> list[dict[str, Any]]:
    return client.get(f"/evaluations/{one}/samples", params={"summary": True, "limit": 1000}).json()["samples"]


def _blobs(hub: RunningHub) -> set[str]:
    return {str(path) for path in (hub.data_dir / "blobs").rglob("*") if path.is_file()}
