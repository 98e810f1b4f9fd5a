"""Publishing at the wire: a push step by step, repeated, interrupted, raced and refused (hub.md §3.3)."""

from __future__ import annotations

import hashlib
import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.conftest import RunningHub
from tests.hub.pushing import Push, hash_files, make_archive, make_wheel, push, put
from tests.support import stores


def visible(hub: RunningHub, name: str, client=None) -> bool:
    """Whether anything of the environment can be seen, in any of the ways to look."""
    client = client or hub.api
    seen = [
        client.get(f"/environmentshub/{hub.owner}/{name}/@latest").status_code == 200,
        client.get(f"/environmentshub/{hub.owner}/{name}/versions").status_code == 200,
        any(row["name"] == name for row in client.get("/environmentshub/").json()["data"]),
        client.get(f"{hub.url}/{hub.owner}/simple/{name}/").status_code == 200,
        client.get(f"{hub.url}/dashboard/environments/{hub.owner}/{name}").status_code == 200,
    ]
    assert len(set(seen)) == 1, seen
    return seen[0]


def test_a_push_is_pulled_byte_for_byte(module_hub: RunningHub) -> None:
    manifest = b'{"image": "prime/me/whole:latest", "image_digest": "sha256:' + b"a" * 64 + b'"}'
    one = push(module_hub.api, "whole", files={"proj/.build.json": manifest, "data/rows.csv": b"a,b\n"})
    detail = module_hub.client().get(f"/environmentshub/{module_hub.owner}/whole/@latest").json()["data"]
    assert detail["owner"]["name"] == module_hub.owner
    assert (detail["semantic_version"], detail["visibility"]) == ("0.1.0", "PUBLIC")
    assert detail["content_hash"] == hash_files(one.files)
    assert detail["tags"] == ["math", "eval"] and "little" in detail["readme"]
    assert detail["image"] == {"reference": "prime/me/whole:latest", "digest": "sha256:" + "a" * 64}
    pulled = module_hub.client().get(detail["package_url"], follow_redirects=True).content
    assert pulled == one.archive and hashlib.sha256(pulled).hexdigest() == detail["package_sha256"]
    wheel = module_hub.client().get(detail["wheel_url"], follow_redirects=True).content
    assert wheel == one.wheel and hashlib.sha256(wheel).hexdigest() == detail["wheel_sha256"]


def test_nothing_is_visible_before_the_last_step(module_hub: RunningHub) -> None:
    one = Push(module_hub.api, "by-steps")
    for step in one.steps():
        assert not visible(module_hub, "by-steps"), f"visible before {step.__name__}"
        answer = step()
        assert answer.is_success, answer.text
    assert visible(module_hub, "by-steps")
    assert answer.json()["data"]["success"] is True


@pytest.mark.parametrize("stop", range(1, 7))
def test_a_push_cut_after_any_step_is_repeated(module_hub: RunningHub, stop: int) -> None:
    name = f"cut-{stop}"
    Push(module_hub.api, name).run(until=stop)
    assert not visible(module_hub, name)
    push(module_hub.api, name)
    assert visible(module_hub, name)


def test_every_step_may_be_repeated(module_hub: RunningHub) -> None:
    one = Push(module_hub.api, "twice")
    for step in one.steps():
        assert step().is_success
        again = step()
        assert again is None or again.is_success or again.status_code == 409, (step.__name__, again.text)
    assert one.finalize_version().json()["data"]["success"] is True


def test_a_version_is_immutable(module_hub: RunningHub) -> None:
    push(module_hub.api, "fixed")
    again = Push(module_hub.api, "fixed", files={"extra.py": b"x = 1\n"})
    again.resolve()
    for refused in (again.prepare_wheel(), again.prepare_version()):
        assert refused.status_code == 409
        detail = refused.json()["detail"]
        assert detail.startswith("Version 0.1.0 already exists") and "content hash" in detail
    push(module_hub.api, "fixed", "0.1.1", files={"extra.py": b"x = 1\n"})
    rows = module_hub.api.get(f"/environmentshub/{module_hub.owner}/fixed/versions").json()["data"]["versions"]
    assert [row["version"] for row in rows] == ["0.1.1", "0.1.0"]


def test_another_spelling_of_a_number_is_the_same_version(module_hub: RunningHub) -> None:
    push(module_hub.api, "spelt", "1.0")
    again = Push(module_hub.api, "spelt", "1.0.0")
    again.resolve()
    assert again.prepare_wheel().status_code == 409


def test_latest_is_the_highest_release(module_hub: RunningHub) -> None:
    for version in ("0.2.0", "0.10.0", "0.3.0", "1.0.0rc1"):
        push(module_hub.api, "many", version, metadata={"description": f"as of {version}"})
    base = f"/environmentshub/{module_hub.owner}/many"
    assert module_hub.api.get(f"{base}/@latest").json()["data"]["semantic_version"] == "0.10.0"
    assert module_hub.api.get(f"{base}/status").json()["data"]["description"] == "as of 0.10.0"
    exact = module_hub.api.get(f"{base}/@1.0.0rc1").json()["data"]
    assert exact["latest_version"]["semantic_version"] == "0.10.0"
    by_hash = module_hub.api.get(f"{base}/@{exact['content_hash'][:10]}").json()["data"]
    assert by_hash["semantic_version"] == "1.0.0rc1"
    missing = module_hub.api.get(f"{base}/@9.9")
    assert missing.status_code == 404 and "9.9" in missing.json()["detail"]


def test_of_many_pushes_at_once_one_wins(module_hub: RunningHub) -> None:
    clients = [module_hub.client(module_hub.token) for _ in range(36)]

    def attempt(number: int) -> tuple[int, str, Push]:
        text = f"NUMBER = {number}\n"
        wheel = make_wheel("raced", "0.1.0", text)
        one = Push(clients[number], "raced", wheel=wheel, files={"number.py": text.encode()})
        answer = one.resolve()
        for step in one.steps()[1:]:
            answer = step() or answer
            if not answer.is_success:
                break
        return answer.status_code, answer.text, one

    with ThreadPoolExecutor(12) as pool:
        outcomes = list(pool.map(attempt, range(len(clients))))
    won = [one for status, _, one in outcomes if status == 200]
    assert len(won) == 1
    lost = [text for status, text, _ in outcomes if status != 200]
    assert all("Version 0.1.0 already exists" in text and "content hash" in text for text in lost)
    detail = module_hub.api.get(f"/environmentshub/{module_hub.owner}/raced/@latest").json()["data"]
    assert module_hub.api.get(detail["package_url"], follow_redirects=True).content == won[0].archive
    assert module_hub.api.get(detail["wheel_url"], follow_redirects=True).content == won[0].wheel
    assert detail["content_hash"] == won[0].content_hash


def test_an_archive_that_is_not_the_announced_one(module_hub: RunningHub) -> None:
    one = Push(module_hub.api, "liar")
    one.run(until=5)
    other = put(one.version_url, make_archive({"README.md": b"another"}))
    if stores.presigned():  # the store takes what it gets; the Hub looks at it afterwards
        assert other.status_code == 200
        other = one.finalize_version()
    assert other.status_code == 422 and "not the one announced" in other.json()["detail"]
    assert one.finalize_version().status_code == 400
    assert not visible(module_hub, "liar")
    push(module_hub.api, "liar")


def test_the_content_hash_is_the_members_own(module_hub: RunningHub) -> None:
    one = Push(module_hub.api, "wrong-hash")
    one.resolve()
    false_hash = "0" * 64
    one.prepare_wheel(content_hash=false_hash)
    one.upload_wheel()
    one.finalize_wheel()
    one.prepare_version(content_hash=false_hash)
    one.upload_archive()
    refused = one.finalize_version()
    assert refused.status_code == 422 and one.content_hash[:12] in refused.json()["detail"]
    assert not visible(module_hub, "wrong-hash")


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("filename", "other-0.1.0-py3-none-any.whl", "both take their name from [project].name"),
        ("filename", "checked-0.2.0-py3-none-any.whl", "is of version 0.2.0"),
        ("filename", "../../etc/passwd", "not the file name of a wheel"),
        ("semantic_version", "one", "is not a version"),
        ("semantic_version", None, "is not a version"),
        ("sha256", "abc", "SHA-256"),
        ("content_hash", "g" * 64, "SHA-256"),
        ("size", 0, "size"),
    ],
)
def test_what_is_refused_at_once(module_hub: RunningHub, field: str, value: object, words: str) -> None:
    one = Push(module_hub.api, "checked")
    one.resolve()
    refused = one.prepare_wheel(**{field: value})
    assert refused.status_code == 422 and words in refused.json()["detail"], refused.text


def test_a_wheel_whose_metadata_lies(module_hub: RunningHub) -> None:
    one = Push(module_hub.api, "honest", wheel=make_wheel("somebody-else", "3.0"))
    one.run(until=3)
    refused = one.finalize_wheel()
    assert refused is not None and refused.status_code == 422
    assert "somebody-else 3.0" in refused.json()["detail"]


@pytest.mark.parametrize("name", ["", "-x", "a/b", "ünï", "a b", "x" * 101])
def test_names_that_cannot_be(module_hub: RunningHub, name: str) -> None:
    refused = module_hub.api.post("/environmentshub/resolve", json={"name": name})
    assert refused.status_code == 422 and "environment name" in refused.json()["detail"]


def test_only_the_owner_publishes(module_hub: RunningHub) -> None:
    one = push(module_hub.api, "mine-only")
    eve = module_hub.client(module_hub.add_user("eve"))
    for answer in (
        eve.post(f"/environmentshub/{one.environment_id}/wheels", json={**_body(one)}),
        eve.post(f"/environmentshub/{one.environment_id}/versions", json={**_body(one)}),
        eve.post(f"/environmentshub/{one.environment_id}/versions/{one.version_id}/finalize"),
    ):
        assert answer.status_code == 403, answer.text
    as_owner = eve.post("/environmentshub/resolve", json={"name": "mine-only", "owner_slug": module_hub.owner})
    assert as_owner.status_code == 403 and "may not publish" in as_owner.json()["detail"]
    nobody = module_hub.client().post("/environmentshub/resolve", json={"name": "mine-only"})
    assert (nobody.status_code, nobody.json()["detail"]) == (401, "Not authenticated. Run 'prime login' first.")
    own = eve.post("/environmentshub/resolve", json={"name": "mine-only"})
    assert own.json()["data"]["id"] != one.environment_id


def _body(one: Push) -> dict[str, object]:
    return {
        "content_hash": "1" * 64,
        "filename": "mine_only-0.2.0-py3-none-any.whl",
        "sha256": "2" * 64,
        "size": 10,
        "semantic_version": "0.2.0",
        "metadata": {},
    }


@pytest.mark.disk
def test_upload_addresses_are_for_one_file_and_a_while(module_hub: RunningHub) -> None:
    one = Push(module_hub.api, "signed")
    one.run(until=2)
    assert one.wheel_url is not None
    address, token = one.wheel_url.split("?token=")
    for wrong in (address, f"{address}?token=", f"{address}?token={token[:-2]}xx", f"{address}?token=1.{token}"):
        assert put(wrong, one.wheel).status_code == 403
    other = Push(module_hub.api, "signed-too")
    other.run(until=2)
    assert other.wheel_url is not None
    assert put(f"{other.wheel_url.split('?')[0]}?token={token}", one.wheel).status_code == 403
    assert put(one.wheel_url, one.wheel).status_code == 200


def test_secrets_are_not_logged(hub: RunningHub) -> None:
    one = push(hub.api, "quiet")
    hub.api.get("/environmentshub/", params={"search": "a-searched-word"})
    assert one.wheel_url is not None
    detail = hub.client().get(f"/environmentshub/{hub.owner}/quiet/@latest").json()["data"]
    got = hub.client().get(detail["wheel_url"], follow_redirects=True)
    assert got.content == one.wheel
    signed = [str(got.url.params.get("X-Amz-Signature"))] if stores.presigned() else []
    if not signed:
        assert "PUT /api/v1/uploads/wheel/" in hub.log
    uploading = re.split("(?:token|X-Amz-Signature)=", one.wheel_url)[1]
    for secret in (hub.token, uploading, *signed, "token=", "Signature=", "a-searched-word"):
        assert secret not in hub.log


def _small_files(limit: int = 1_500_000) -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))


@pytest.mark.disk
def test_a_full_disk_publishes_nothing_and_says_so(start_hub, tmp_path: Path) -> None:
    hub = start_hub(before=_small_files)
    noise = hashlib.shake_256(b"noise").digest(3_000_000)
    one = Push(hub.api, "large", files={"data/noise.bin": noise})
    one.run(until=5)
    refused = one.upload_archive()
    assert refused.status_code == 507
    assert "storage is full" in refused.json()["detail"] and "nothing was published" in refused.json()["detail"]
    assert one.finalize_version().status_code == 400
    assert not visible(hub, "large")
    left = [path for path in (hub.data_dir / "blobs").rglob("*") if path.is_file()]
    assert [path.stat().st_size for path in left] == [len(one.wheel)]
    push(hub.api, "small")
    assert visible(hub, "small")


def test_a_full_disk_for_the_check_is_not_the_archives_fault(start_hub) -> None:
    hub = start_hub(before=_small_files)
    one = Push(hub.api, "inflating", files={"data/zeros.bin": bytes(3_000_000)})
    one.archive = make_archive(one.files, reverse=True)  # what is packed in order needs no room to be hashed
    one.run(until=6)
    refused = one.finalize_version()
    assert refused.status_code == 507 and "temporary folder is full" in refused.json()["detail"], refused.text
    assert one.finalize_version().status_code == 507, "the upload is kept for the next try"
    assert not visible(hub, "inflating")


def test_visibility_given_at_resolve_holds(module_hub: RunningHub) -> None:
    push(module_hub.api, "hidden", visibility="PRIVATE")
    stranger = module_hub.client()
    mallory = module_hub.client(module_hub.add_user("mallory"))
    assert visible(module_hub, "hidden")
    for client in (stranger, mallory):
        assert not visible(module_hub, "hidden", client)
        base = f"/environmentshub/{module_hub.owner}/hidden"
        unknown = client.get(f"/environmentshub/{module_hub.owner}/no-such/@latest")
        hidden = client.get(f"{base}/@latest")
        assert hidden.status_code == 404
        assert hidden.json()["detail"].replace("hidden", "no-such") == unknown.json()["detail"]
        for path in ("status", "@0.1.0", "@latest/inspect", "@0.1.0/package"):
            assert client.get(f"{base}/{path}").status_code == 404
        assert client.get(f"/files/{module_hub.owner}/hidden-0.1.0-py3-none-any.whl").status_code == 404
    bad = module_hub.api.post("/environmentshub/resolve", json={"name": "hidden", "visibility": "SECRET"})
    assert bad.status_code == 422 and "PUBLIC or PRIVATE" in bad.json()["detail"]
    module_hub.api.post("/environmentshub/resolve", json={"name": "hidden", "visibility": "PUBLIC"})
    assert visible(module_hub, "hidden", stranger)


@pytest.mark.sqlite
def test_a_full_disk_for_the_records_is_said_too(start_hub) -> None:
    hub = start_hub(before=_small_files)
    one = Push(hub.api, "wordy", metadata={"description": "x" * 900_000})
    one.resolve()
    answers = [one.prepare_wheel(sha256=f"{number:064x}") for number in range(4)]
    full = [answer for answer in answers if answer.status_code == 507]
    assert full and "storage is full" in full[0].json()["detail"], [answer.text for answer in answers]
    assert hub.api.get("/health").status_code == 200


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "half a \ud83d character"])
def test_metadata_that_cannot_be_told_again_is_refused(module_hub: RunningHub, value: object) -> None:
    one = Push(module_hub.api, "untold")
    one.resolve()
    body = {"content_hash": one.content_hash, "filename": one.wheel_filename, "sha256": "0" * 64, "size": 1}
    body |= {"semantic_version": "0.1.0", "metadata": {"x": value}}
    address = f"/environmentshub/{one.environment_id}/wheels"
    refused = module_hub.api.post(address, content=json.dumps(body), headers={"Content-Type": "application/json"})
    assert refused.status_code == 422 and "metadata" in refused.json()["detail"], refused.text


def test_a_wheel_of_another_version_does_not_serve(module_hub: RunningHub) -> None:
    one = Push(module_hub.api, "two-numbers")
    one.run(until=4)
    assert one.prepare_version(semantic_version="0.2.0").status_code == 200
    one.upload_archive()
    refused = one.finalize_version()
    assert refused.status_code == 400 and "wheel of version 0.2.0 has not been uploaded" in refused.json()["detail"]
    assert not visible(module_hub, "two-numbers")


def test_metadata_has_a_limit(module_hub: RunningHub) -> None:
    one = Push(module_hub.api, "too-wordy", metadata={"description": "x" * 1_100_000})
    one.resolve()
    refused = one.prepare_wheel()
    assert refused.status_code == 422 and "README.md" in refused.json()["detail"]


@pytest.mark.disk  # in a bucket, whose clock goes by itself: test_stores.py
def test_what_was_left_in_the_middle_is_cleared_after_a_day(hub: RunningHub) -> None:
    import os
    import time

    kept = push(hub.api, "finished")
    left = Push(hub.api, "left", files={"more.py": b"x = 2\n"})
    left.wheel = make_wheel("left", "0.1.0", "x = 2\n")
    left.run(until=6)
    recent = Push(hub.api, "recent", wheel=make_wheel("recent", "0.1.0"))
    recent.run(until=3)
    hub.stop()
    hub.sql("UPDATE wheels SET created_at = '2020-01-01 00:00:00.000000' WHERE filename LIKE 'left%'")
    hub.sql("UPDATE versions SET created_at = '2020-01-01 00:00:00.000000'")
    blobs = [path for path in (hub.data_dir / "blobs").rglob("*") if path.is_file()]
    assert len(blobs) == 5
    ago = time.time() - 3 * 86400
    for path in blobs:
        if path.name != hashlib.sha256(recent.wheel).hexdigest():
            os.utime(path, (ago, ago))
    hub.start()
    expected = {hashlib.sha256(data).hexdigest() for data in (kept.wheel, kept.archive, recent.wheel)}
    deadline = time.monotonic() + 30
    # Folders go meanwhile, which a walk, unlike a glob, does not mind.
    while {name for _, _, names in os.walk(hub.data_dir / "blobs") for name in names} != expected:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert visible(hub, "finished")
    push(hub.api, "left", files={"more.py": b"x = 2\n"})
    recent.client = hub.api
    assert [step().status_code for step in recent.steps()[3:]] == [200] * 4
