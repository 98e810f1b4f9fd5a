"""Who may let a sandbox connect to the Hub's own machine and its private networks: accounts of that machine only."""

import shutil

import pytest

from tests.conftest import HubFactory


@pytest.mark.parametrize("entry", ["127.0.0.1:22", "10.0.0.0/8", "192.168.1.1", "169.254.169.254", "[::1]:80"])
def test_the_way_inward_is_not_for_everybody(start_hub: HubFactory, entry: str) -> None:
    if shutil.which("bwrap") is None:
        pytest.skip("bubblewrap is not installed")
    hub = start_hub("--runtime", "bubblewrap")
    eve = hub.client(hub.add_user("eve"))
    hub.sql("UPDATE accounts SET local = false WHERE slug = 'eve'")  # as one from elsewhere
    wanted = {"name": "x", "docker_image": "tiny", "network_allowlist": ["example.org", entry]}
    refused = eve.post("/sandbox", json=wanted)
    assert refused.status_code == 403 and entry in refused.json()["detail"], refused.text
    # The owner of the machine gets as far as the image, which is not there; so does eve with the internet alone.
    assert hub.api.post("/sandbox", json=wanted).status_code == 404
    assert eve.post("/sandbox", json={**wanted, "network_allowlist": ["example.org", "0.0.0.0/0"]}).status_code == 404
    # All of a team goes into its sandboxes, from wherever they are.
    assert hub.api.post("/teams", json={"slug": "crew", "name": "Crew"}).is_success
    refused = hub.api.post("/sandbox", json={**wanted, "team_id": "crew"})
    assert refused.status_code == 403 and "a sandbox of their own" in refused.json()["detail"], refused.text
