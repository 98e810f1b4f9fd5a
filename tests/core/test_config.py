"""Which Hub and which key: precedence, the shared file, saved contexts, and keys that stay with their Hub."""

from __future__ import annotations

import json
import re
import stat
from pathlib import Path

import pytest

from prime_core.config import VENDOR_BASE_URL, VENDOR_FRONTEND_URL, ConfigFile, load_config
from prime_core.errors import ConfigError

HUB = "http://hub.example:8000"


@pytest.fixture
def file(home: Path) -> ConfigFile:
    return ConfigFile({})


def write(file: ConfigFile, **fields: object) -> None:
    file.home.mkdir(parents=True, exist_ok=True)
    file.path.write_text(json.dumps(fields))


def test_nothing_configured_means_the_machines_own_hub(file: ConfigFile):
    config = load_config({})
    assert (config.base_url, config.api_key, config.frontend_url) == (None, None, None)


def test_the_files_address_and_key(file: ConfigFile):
    write(file, base_url=HUB + "/api/v1/", api_key="k", user_id="u1", user_name="alice", team_id="t")
    config = load_config({})
    assert (config.base_url, config.api_key, config.frontend_url) == (HUB, "k", HUB)
    assert (config.user_id, config.user_name, config.team_id) == ("u1", "alice", "t")


def test_variables_beat_the_file(file: ConfigFile):
    write(file, base_url=HUB, api_key="k", team_id="t")
    config = load_config(
        {"PRIME_API_KEY": "other", "PRIME_TEAM_ID": "t2", "PRIME_FRONTEND_URL": "http://pages.example/"}
    )
    assert (config.api_key, config.team_id, config.frontend_url) == ("other", "t2", "http://pages.example")


@pytest.mark.parametrize("name", ["PRIME_API_BASE_URL", "PRIME_BASE_URL"])
def test_a_key_is_never_sent_to_another_hub(file: ConfigFile, name: str):
    write(file, base_url=HUB, api_key="k", team_id="t", user_id="u", frontend_url="http://pages.example")
    config = load_config({name: "http://elsewhere.example"})
    assert config.base_url == "http://elsewhere.example"
    assert (config.api_key, config.team_id, config.user_id) == (None, None, None)
    assert config.frontend_url == "http://elsewhere.example"


def test_the_first_of_two_variables_counts(file: ConfigFile):
    config = load_config({"PRIME_API_BASE_URL": "http://one.example", "PRIME_BASE_URL": "http://two.example"})
    assert config.base_url == "http://one.example"


def test_a_variable_that_names_the_same_hub_keeps_the_key(file: ConfigFile):
    write(file, base_url=HUB, api_key="k")
    assert load_config({"PRIME_BASE_URL": HUB + "/api/v1"}).api_key == "k"


def test_the_vendors_default_is_not_a_choice_and_its_key_stays_there(file: ConfigFile):
    write(file, base_url=VENDOR_BASE_URL, frontend_url=VENDOR_FRONTEND_URL, api_key="vendor", team_id="t")
    config = load_config({})
    assert (config.base_url, config.api_key, config.team_id, config.frontend_url) == (None, None, None, None)


def test_a_vendor_address_beside_another_hub_is_not_used_for_pages(file: ConfigFile):
    write(file, base_url=HUB, frontend_url=VENDOR_FRONTEND_URL, api_key="k")
    assert load_config({}).frontend_url == HUB


@pytest.mark.parametrize(
    "url", ["hub:8000", "http://localhost:abc", "http://localhost:99999", "http://[::1", "http:///x"]
)
def test_an_address_that_is_not_one(file: ConfigFile, url: str):
    with pytest.raises(ConfigError, match=rf"The Hub's address '{re.escape(url)}' is not an http\(s\) URL\.") as caught:
        load_config({"PRIME_BASE_URL": url})
    assert "prime config set-base-url" in (caught.value.hint or "")


@pytest.mark.parametrize(("text", "wrong"), [("{", "not valid JSON"), ("[1]", "does not hold a JSON object")])
def test_a_broken_file_is_named(file: ConfigFile, text: str, wrong: str):
    file.home.mkdir(parents=True)
    file.path.write_text(text)
    with pytest.raises(ConfigError, match=wrong) as caught:
        load_config({})
    assert str(file.path) in str(caught.value)


def test_the_key_is_not_in_the_representation(file: ConfigFile):
    write(file, base_url=HUB, api_key="very-secret")
    assert "very-secret" not in repr(load_config({}))


def test_update_keeps_unknown_fields_and_the_file_is_its_owners(file: ConfigFile):
    write(file, ssh_key_path="~/.ssh/id", base_url=HUB)
    file.update(api_key="k", base_url=None)
    assert file.read() == {"ssh_key_path": "~/.ssh/id", "api_key": "k"}
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert [path.name for path in file.home.iterdir()] == ["config.json"]


def test_login_keeps_the_login_to_another_hub(file: ConfigFile):
    write(file, base_url=VENDOR_BASE_URL, api_key="vendor", team_id="t", traces_opt_out=True)
    kept = file.login(HUB, "k", {"id": "u1", "slug": "alice"})
    assert kept == "api-primeintellect-ai"
    assert load_config({}).api_key == "k"
    assert (load_config({}).user_name, load_config({}).team_id) == ("alice", None)
    assert file.contexts().read(kept)["api_key"] == "vendor"
    assert file.read()["traces_opt_out"] is True
    again = file.login("http://third.example", "k3", {})
    assert again == "hub-example-8000"
    assert file.contexts().list() == ["production", "api-primeintellect-ai", "hub-example-8000"]


def test_login_to_the_same_hub_keeps_nothing(file: ConfigFile):
    write(file, base_url=HUB, api_key="old")
    assert file.login(HUB, "new", {}) is None
    assert file.contexts().list() == ["production"]


def test_two_keys_of_one_hub_get_two_contexts(file: ConfigFile):
    for key in ("one", "two", "two"):
        write(file, base_url=HUB, api_key=key)
        file.login("http://other.example", "k", {})
    assert file.contexts().list() == ["production", "hub-example-8000", "hub-example-8000-2"]


def test_logout_forgets_the_key_and_keeps_the_address(file: ConfigFile):
    write(file, base_url=HUB, api_key="k", user_id="u", team_id="t")
    assert file.logout() is True
    assert file.read() == {"base_url": HUB}
    assert file.logout() is False


def test_contexts_are_saved_used_and_deleted(file: ConfigFile):
    write(file, base_url=HUB, api_key="k")
    contexts = file.contexts()
    path = contexts.save("local")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    write(file, base_url="http://other.example", api_key="k2")
    assert load_config({"PRIME_CONTEXT": "local"}).api_key == "k"
    assert load_config({}, context="local").base_url == HUB
    contexts.use("local")
    assert (file.read()["base_url"], file.read()["current_environment"]) == (HUB, "local")
    contexts.delete("local")
    with pytest.raises(ConfigError, match="Unknown context 'local'"):
        contexts.read("local")


def test_the_production_context_is_nothing_set(file: ConfigFile):
    write(file, base_url=HUB, api_key="k")
    assert load_config({"PRIME_CONTEXT": "production"}).base_url is None


def test_an_unknown_context_names_the_known_ones(file: ConfigFile):
    write(file, base_url=HUB)
    file.contexts().save("local")
    with pytest.raises(ConfigError, match=r"Unknown context 'nope'\.") as caught:
        load_config({"PRIME_CONTEXT": "nope"})
    assert caught.value.hint == "Saved contexts: production, local."


@pytest.mark.parametrize("name", ["../config", "a b", ""])
def test_a_context_name_is_never_a_path(file: ConfigFile, name: str):
    with pytest.raises(ConfigError, match="is not allowed"):
        file.contexts().save(name, {})


def test_a_temporary_context_is_read_only(home: Path):
    file = ConfigFile({"PRIME_CONTEXT": "local"})
    with pytest.raises(ConfigError, match=r"Temporary context 'local' is read-only\."):
        file.update(api_key="k")
    assert not file.path.exists()


def test_a_folder_that_cannot_be_written(home: Path):
    (home / ".prime").symlink_to(home / "nowhere" / "at" / "all")
    with pytest.raises(ConfigError, match="cannot be written") as caught:
        ConfigFile({}).update(api_key="k")
    assert str(home / ".prime" / "config.json") in str(caught.value)
