"""Publishing, renaming and deleting images, what protects one, and who may run it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from prime_hub.services.image_access import registry_of
from tests.conftest import HubFactory, RunningHub
from tests.hub.images import DOCKERFILE, begin, build, create, held_context
from tests.hub.pushing import push, put

PERSONAL = {"type": "personal"}


def change(client: httpx.Client, name: str, *, dry: bool = False, **wanted: Any) -> dict[str, Any]:
    """One change; its row of the results."""
    source = {"owner": PERSONAL, "name": name, "tag": "latest"}
    answer = client.patch(
        "/images", json={"mode": "explicit", "dryRun": dry, "updates": [{"source": source, "set": wanted}]}
    )
    assert answer.status_code == 200, answer.text
    (row,) = answer.json()["results"]
    assert row["source"] == source and answer.json()["success"] == row["success"]
    return row


def own(hub: RunningHub, name: str, **more: Any) -> str:
    """An image of its own content; its digest."""
    done = build(hub.api, name, files={"Dockerfile": DOCKERFILE + f"ENV NAME={name}\n"}, **more)
    assert done["status"] == "COMPLETED", done
    return str(done["imageDigest"])


def test_changes_are_made_each_for_itself(module_hub: RunningHub) -> None:
    api, me = module_hub.api, module_hub.owner
    digest = own(module_hub, "first")
    own(module_hub, "second")
    row = change(api, "first", dry=True, visibility="PUBLIC", tag="v9")
    assert row["before"] == {"owner": PERSONAL, "name": "first", "tag": "latest", "visibility": "PRIVATE"}
    assert row["after"] == {"owner": PERSONAL, "name": "first", "tag": "v9", "visibility": "PUBLIC"}
    assert api.get("/images/first/latest").json()["visibility"] == "PRIVATE"
    updates = [
        {"source": {"reference": f"prime/{me}/first:latest"}, "set": {"visibility": "PUBLIC", "name": "renamed"}},
        {"source": {"reference": f"prime/{me}/first:latest"}, "set": {"tag": "v2"}},
        {"source": {"owner": PERSONAL, "name": "second", "tag": "latest"}, "set": {"name": "renamed"}},
        {"source": {"owner": PERSONAL, "name": "second", "tag": "latest"}, "set": {"name": "No Name"}},
        {"source": {"owner": PERSONAL, "name": "second", "tag": "latest"}, "set": {"visibility": "LOUD"}},
        {"source": {"owner": {"type": "team", "teamId": "t"}, "name": "second", "tag": "latest"}, "set": {"tag": "x"}},
        {"source": {"owner": PERSONAL, "name": "second", "tag": "latest"}, "set": {"owner": {"type": "platform"}}},
        {"source": {"owner": PERSONAL}, "set": {"tag": "x"}},
        {"source": {"reference": "a b"}, "set": {"tag": "x"}},
    ]
    answer = api.patch("/images", json={"mode": "explicit", "updates": updates}).json()
    assert answer["success"] is False and answer["dryRun"] is False
    codes = [row["error"] and row["error"]["code"] for row in answer["results"]]
    assert codes == [None, "NOT_FOUND", "CONFLICT", "INVALID", "INVALID", "NOT_FOUND", "INVALID", "INVALID", "INVALID"]
    assert "already has an image renamed:latest" in answer["results"][2]["error"]["message"]
    assert api.get("/images/renamed/latest").json()["digest"] == digest
    assert api.get("/images/first/latest").status_code == 404
    assert api.patch("/images", json={"mode": "search", "updates": []}).status_code == 422
    eve = module_hub.client(module_hub.add_user("eve-changes"))
    rows = eve.patch("/images", json={"updates": [{"source": {"reference": f"prime/{me}/renamed:latest"}, "set": {}}]})
    assert rows.json()["results"][0]["error"]["code"] == "FORBIDDEN"
    assert eve.delete(f"/images/prime/{me}/renamed/latest").status_code == 403
    assert eve.delete(f"/images/{me}/second/latest").status_code == 404
    assert eve.delete("/images/renamed/latest").status_code == 404


def test_a_deleted_image_is_gone_from_the_machine(module_hub: RunningHub) -> None:
    api = module_hub.api
    digest = own(module_hub, "gone")
    folder = module_hub.data_dir / "runner" / "images" / digest.removeprefix("sha256:")
    folders = list(module_hub.data_dir.glob(f"runner/**/{digest.removeprefix('sha256:')}"))
    assert folders, folder
    assert build(api, "gone", "again", files={"Dockerfile": DOCKERFILE + "ENV NAME=gone\n"})["imageDigest"] == digest
    assert api.delete("/images/gone/latest").status_code == 200
    assert folders[0].exists() and api.get("/images/gone/again").status_code == 200
    box = create(api, "gone:again")
    refused = api.delete("/images/gone/again")
    assert refused.status_code == 409 and "in use by 1 sandbox" in refused.json()["detail"]
    api.delete(f"/sandbox/{box['id']}")
    assert api.delete(f"/images/{module_hub.owner}/gone/again").status_code == 200
    assert not folders[0].exists()
    assert api.delete("/images/gone/again").status_code == 404
    assert api.get("/images", params={"search": "gone"}).json()["data"] == []
    assert api.post("/sandbox", json={"name": "x", "docker_image": f"gone@{digest}"}).status_code == 404


def test_what_a_version_refers_to_stays(module_hub: RunningHub) -> None:
    api, me = module_hub.api, module_hub.owner
    digest = own(module_hub, "published")
    manifest = {"openenv": {"image": "published:latest", "image_digest": digest}}
    push(api, "needs-image", metadata=manifest)
    refused = api.delete("/images/published/latest")
    assert refused.status_code == 409 and f"{me}/needs-image@0.1.0" in refused.json()["detail"]
    # A private image is not held by what others say of it; a public one is, until it is withdrawn.
    other = own(module_hub, "lent")
    eve = module_hub.client(module_hub.add_user("eve-holds"))
    push(eve, "her-env", metadata={"openenv": {"image": "x", "image_digest": other}})
    change(api, "lent", visibility="PUBLIC")
    held = api.delete("/images/lent/latest")
    assert held.status_code == 409 and "images unpublish lent:latest" in held.json()["detail"]
    change(api, "lent", visibility="PRIVATE")
    assert api.delete("/images/lent/latest").status_code == 200


def test_a_name_that_a_version_has_stays_beside_others_of_its_image(module_hub: RunningHub) -> None:
    api, me = module_hub.api, module_hub.owner
    digest = own(module_hub, "twin")
    same = {"Dockerfile": DOCKERFILE + "ENV NAME=twin\n"}
    assert build(api, "twin", "other", files=same)["imageDigest"] == digest
    assert build(api, "twin", "third", files=same)["imageDigest"] == digest
    push(api, "twin-env", metadata={"openenv": {"image": f"prime/{me}/twin:latest", "image_digest": digest}})
    refused = api.delete("/images/twin/latest")
    assert refused.status_code == 409 and f"{me}/twin-env@0.1.0" in refused.json()["detail"]
    assert api.delete("/images/twin/third").status_code == 200, "nobody names that one"
    push(api, "twin-env", "0.2.0", metadata={"openenv": {"image": "twin:other", "image_digest": digest}})
    refused = api.delete("/images/twin/other")
    assert refused.status_code == 409 and f"{me}/twin-env@0.2.0" in refused.json()["detail"]
    assert api.delete(f"/environmentshub/{me}/twin-env/@0.1.0").status_code == 200
    assert api.delete("/images/twin/latest").status_code == 200, "its version is gone"
    assert api.post("/sandbox", json={"name": "x", "docker_image": "twin:other"}).status_code == 200


def test_a_failed_build_and_one_under_way_are_deleted(module_hub: RunningHub, tmp_path: Path) -> None:
    api = module_hub.api
    build(api, "bad", files={"Dockerfile": "FROM python:3.11-slim\nCOPY nothing .\n"})
    assert api.delete("/images/bad/latest").status_code == 200
    assert api.get("/images", params={"search": "bad"}).json()["data"] == []
    begun = begin(api, "slow")
    put(begun["upload_url"], held_context(tmp_path / "gate"))
    api.post(f"/images/build/{begun['build_id']}/start")
    assert api.delete("/images/slow/latest").status_code == 200
    (tmp_path / "gate").unlink()
    assert api.get(f"/images/build/{begun['build_id']}").status_code == 404
    assert build(api, "slow")["status"] == "COMPLETED"


def test_a_version_opens_no_image_of_somebody_else(start_hub: HubFactory) -> None:
    hub = start_hub("--allow-foreign-images")
    digest = own(hub, "secret")
    eve = hub.client(hub.add_user("eve"))
    body = {"name": "x", "docker_image": "secret", "image_digest": digest}
    assert eve.post("/sandbox", json=body).status_code == 404
    push(eve, "claims-it", metadata={"openenv": {"image": "x", "image_digest": digest}})
    assert eve.post("/sandbox", json=body).status_code == 404
    push(hub.api, "shares-it", metadata={"openenv": {"image": "x", "image_digest": digest}})
    answer = eve.post("/sandbox", json=body)
    assert answer.status_code == 200, answer.text


def test_without_isolation_accounts_of_elsewhere_run_nothing(start_hub: HubFactory) -> None:
    hub = start_hub()
    carol = hub.client(hub.add_user("carol"))
    assert build(carol)["status"] == "COMPLETED"
    hub.sql("UPDATE accounts SET local = false WHERE slug = 'carol'")
    refused = carol.post("/sandbox", json={"name": "x", "docker_image": "tiny"})
    assert refused.status_code == 403 and "only accounts made on its own machine may run" in refused.json()["detail"]


def test_an_image_of_another_kind_of_runtime(module_hub: RunningHub) -> None:
    own(module_hub, "foreign-kind")
    tag = "SELECT image_id FROM image_tags WHERE name = 'foreign-kind'"
    module_hub.sql(f"UPDATE images SET kind = 'oci' WHERE id = ({tag})")
    refused = module_hub.api.post("/sandbox", json={"name": "x", "docker_image": "foreign-kind"})
    assert refused.status_code == 404 and "another kind of runtime" in refused.json()["detail"]


def test_other_machines_and_registries_are_refused(module_hub: RunningHub) -> None:
    api = module_hub.api
    for body, words in (
        ({"image_name": "x", "platform": "linux/riscv64"}, "builds and runs linux/"),
        ({"source_image": "python:3.11"}, "takes no images from registries"),
        ({"source_image": "a,b", "image_name": "x"}, "cannot be given one name"),
    ):
        refused = api.post("/images/build", json=body)
        assert refused.status_code == 422 and words in refused.json()["detail"], body
    several = api.post("/images/build", json={"source_image": ["ghcr.io/a/b:1", "ghcr.io/a/c:1"]}).json()["results"]
    assert [row["sourceImage"] for row in several] == ["ghcr.io/a/b:1", "ghcr.io/a/c:1"]
    assert all(row["build"] is None and "registries" in row["error"] for row in several)
    assert api.post("/sandbox", json={"name": "x", "docker_image": "ghcr.io/a/b:1"}).status_code == 404


@pytest.mark.parametrize(
    ("reference", "host", "path"),
    [
        ("python:3.11", "docker.io", "python:3.11"),
        ("alice/app", "docker.io", "alice/app"),
        ("index.docker.io/library/python", "docker.io", "library/python"),
        ("ghcr.io/a/b:1", "ghcr.io", "a/b:1"),
        ("localhost:5000/a", "localhost:5000", "a"),
        ("prime/alice/app:v1", None, "prime/alice/app:v1"),
    ],
)
def test_registries_of_references(reference: str, host: str | None, path: str) -> None:
    assert registry_of(reference) == (host, path)


def test_what_ended_long_ago_is_forgotten(start_hub: HubFactory) -> None:
    hub = start_hub()
    old, kept = own(hub, "old"), own(hub, "kept")
    own(hub, "moving")
    build(hub.api, "moving")
    push(hub.api, "needs-old", metadata={"openenv": {"image": "x", "image_digest": old}})
    lives, ended = create(hub.api, "kept"), create(hub.api, "kept")
    hub.api.delete(f"/sandbox/{ended['id']}")
    unused = hub.sql("SELECT digest FROM images WHERE id NOT IN (SELECT image_id FROM image_tags)")
    for table, columns in (
        ("sandboxes", ("created_at", "terminated_at")),
        ("builds", ("created_at", "completed_at")),
        ("images", ("created_at",)),
    ):
        for column in columns:
            hub.sql(f"UPDATE {table} SET {column} = '2020-01-01 00:00:00' WHERE {column} IS NOT NULL")
    hub.sql("DELETE FROM image_tags WHERE name = 'old'")
    assert len(unused) == 1
    hub.stop()
    hub.start()
    hub.wait_for_runner()
    end = time.monotonic() + 30
    while hub.api.get(f"/sandbox/{ended['id']}").status_code != 404:
        assert time.monotonic() < end
        time.sleep(0.1)
    assert hub.api.get(f"/sandbox/{lives['id']}").json()["status"] == "RUNNING"
    assert hub.api.get("/images/kept/latest").json()["digest"] == kept
    assert create(hub.api, f"x@{old}")["status"] == "RUNNING"
    while hub.api.post("/sandbox", json={"name": "x", "docker_image": f"x@{unused[0][0]}"}).status_code != 404:
        assert time.monotonic() < end
        time.sleep(0.5)
