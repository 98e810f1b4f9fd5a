"""What each field of each request changes: two values of it and where the difference shows, or a value that is refused.

A field is named as it stands in the request: `updates[].set.name` of the JSON, `?limit` of the query.
"""

from __future__ import annotations

from typing import Any

from tests.hub import evaluation_cases
from tests.hub.asking import (
    API,
    BOX,
    BUILD_PAGE,
    BY_ID,
    ENVIRONMENT,
    HUB,
    IMAGE,
    IMAGE_PAGE,
    INSIDE,
    NAMED,
    OWNER_PAGE,
    PAGE,
    TAG,
    TEAM_PAGE,
)
from tests.hub.field_kinds import ABSENT, Case, Differs, Refused, Shown

HALF = {"name": "{new}", "value": "v"}
FILE_AT = {"path": "/tmp/kept"}
NO_FILE = "There is no"
CHANGE = {"source": {"name": IMAGE, "tag": TAG}, "set": {"visibility": "PUBLIC"}}
DRY = {"mode": "explicit", "dryRun": True, "updates": [CHANGE]}
PLAIN = {"name": "s", "docker_image": f"{IMAGE}:{TAG}", "timeout_minutes": 1}
LIST: dict[str, str] = {}
TEAM_IMAGES = Shown("test_team_images", "test_all_of_the_team_have_it_and_nobody_else")
TEAM_BOXES = Shown("test_team_sandboxes", "test_it_belongs_to_the_team_and_all_of_it_use_it")
CHANGES = Shown("test_image_changes", "test_changes_are_made_each_for_itself")


def _limit(number: str) -> Differs:
    return Differs(number, "100", LIST)


def _named(extra: dict[str, Any] | None = None) -> dict[str, Case]:
    """Of everything that is published: whose it is."""
    body = {"name": "{new}", **(extra or {})}
    return {
        "owner_slug": Differs("{owner}", "{team}", body),
        "team_slug": Differs(ABSENT, "{team}", body),
        "team_id": Differs(ABSENT, "{team}", body),
    }


def _upload(what: str) -> dict[str, Case]:
    return {
        "content_hash": Refused("x", "The content hash must be a SHA-256"),
        "filename": Refused("../x", "is not the file name of a"),
        "sha256": Refused("x", f"The sha256 of the {what} must be"),
        "size": Refused(10**15, f"The {what} is larger than"),
        "semantic_version": Refused("x", "is not a version"),
        "metadata": Refused({"x": float("nan")}, "The metadata holds what JSON cannot tell again"),
        "runtime_hint": Refused("V9", "VERIFIERS_V0"),
    }


def _secret(kind: str, *, new: bool) -> dict[str, Case]:
    cases: dict[str, Case] = {
        "name": Differs("A_{upper}", "{upper}_B", HALF if new else {}),
        "description": Differs("one", "other"),
        "value": Shown("test_secrets", "test_the_owners_sandbox_has_them"),
    }
    return cases if kind == "secret" else {**cases, "value": Differs("one", "other")}


LIMITS = ("ConcurrentSandboxes", "SandboxCreationsPerHour", "SandboxCpuCores", "SandboxGpuCount")
TUNNELS = ("maxConcurrentTunnels", "maxTunnelCreationsPerHour", "maxTunnelTtlHours")
LOGIN = f"POST {API}/auth_challenge/generate"
NO_EGRESS = "does not restrict where a sandbox connects to"

CASES: dict[str, dict[str, Case]] = {
    f"PUT {API}/uploads/context/{{build_id}}": {"?token": Refused("x", "This upload address has run out")},
    f"PUT {API}/uploads/{{kind}}/{{slot}}": {"?token": Refused("x", "This upload address has run out")},
    f"POST {API}/images/build": {
        "image_name": Differs("one-image", "other-image"),
        "image_tag": Differs("v1", "v2"),
        "visibility": Differs("PUBLIC", "PRIVATE"),
        "dockerfile_path": Shown("test_fields", "test_what_a_build_is_asked_for"),
        "build_args": Shown("test_fields", "test_what_a_build_is_asked_for"),
        "port": Shown("test_fields", "test_what_a_build_is_asked_for"),
        "context_digest": Shown("test_images", "test_the_same_context_is_not_built_twice"),
        "no_cache": Shown("test_images", "test_the_same_context_is_not_built_twice"),
        "platform": Refused("linux/s390x", "builds and runs linux/"),
        "team_id": TEAM_IMAGES,
        "owner_scope": Refused("platform", "leave the platform out"),
        "source_image": Refused("registry.example/a/b:c", "registr"),
        "source_images": Refused(["registry.example/a/b:c"], "registr"),
    },
    f"POST {API}/images/build/{{build_id}}/start": {
        "context_uploaded": Refused(False, "Upload the build context first"),
    },
    f"GET {API}/images/build/{{build_id}}": {
        "?wait": Shown("test_images", "test_a_stopping_hub_lets_go_of_those_who_wait")
    },
    f"GET {API}/images/build/{{build_id}}/logs": {
        "?offset": Shown("test_images", "test_the_log_is_read_along_and_kept")
    },
    f"GET {API}/images": {
        "?limit": _limit("1"),
        "?offset": Differs("0", "1", LIST),
        "?search": Differs(IMAGE, "nothing", LIST),
        "?teamId": TEAM_IMAGES,
        "?ownerScope": Shown("test_team_images", "test_there_are_no_images_of_a_platform"),
    },
    f"GET {API}/images/{{name}}/{{tag}}": {"?teamId": TEAM_IMAGES},
    f"DELETE {API}/images/{{name}}/{{tag}}": {"?teamId": Shown("test_team_images", "test_who_changes_what")},
    f"PATCH {API}/images": {
        "mode": Refused("all", "one by one"),
        "dryRun": CHANGES,
        "updates": Differs([], [CHANGE], DRY),
        "updates[].source": Differs(CHANGE["source"], {"name": "none"}, DRY),
        "updates[].source.name": Differs(IMAGE, "none", DRY),
        "updates[].source.tag": Differs(TAG, "none", DRY),
        "updates[].source.reference": Differs(ABSENT, "prime/{owner}/none:v1", DRY),
        "updates[].source.owner": Differs({"type": "personal"}, {"type": "team"}, DRY),
        "updates[].source.owner.type": Differs("personal", "team", {**DRY, "updates": [{"source": {"owner": {}}}]}),
        "updates[].source.owner.teamId": CHANGES,
        "updates[].set": Differs({}, {"name": "other"}, DRY),
        "updates[].set.name": Differs("one", "other", DRY),
        "updates[].set.tag": Differs("v8", "v9", DRY),
        "updates[].set.visibility": Differs("PUBLIC", "PRIVATE", DRY),
        "updates[].set.owner": Differs(ABSENT, {"type": "team"}, DRY),
        "updates[].set.owner.type": Differs("personal", "team", {**DRY, "updates": [{**CHANGE, "set": {"owner": {}}}]}),
        "updates[].set.owner.teamId": CHANGES,
    },
    f"POST {HUB}/resolve": {
        "name": Differs("{new}-a", "{new}-b"),
        "visibility": Differs("PUBLIC", "PRIVATE"),
        **_named(),
    },
    f"POST {HUB}/check": {
        "name": Refused("-", "cannot be an environment name"),
        "visibility": Refused("x", "is not known; use PUBLIC or PRIVATE"),
        "semantic_version": Refused("x", "is not a version"),
        **_named({"semantic_version": "0.1.0"}),
    },
    f"POST {HUB}/lookup": {"id": Refused("none", "There is no environment with the id none on this Hub.")},
    f"POST {BY_ID}/wheels": _upload("wheel"),
    f"POST {BY_ID}/versions": {
        **_upload("source archive"),
        "metadata": Shown("test_fields", "test_what_a_push_tells_of_itself"),
        "runtime_hint": Shown("test_fields", "test_what_a_push_tells_of_itself"),
        "wheel_id": Shown("test_fields", "test_what_a_push_tells_of_itself"),
    },
    f"GET {API}/user/whoami": {"?teamId": Differs(ABSENT, "{team}")},
    f"PATCH {API}/user/slug": {"slug": Shown("test_accounts", "test_the_slug_by_the_api")},
    f"GET {API}/user/teams": {"?offset": Differs("0", "1", LIST), "?limit": _limit("1")},
    f"POST {API}/teams": {"slug": Differs("{new}-a", "{new}-b"), "name": Differs("One", "Other")},
    f"PATCH {API}/teams/{{team}}": {
        "slug": Refused("A B", "cannot be an account name"),
        "name": Differs("One", "Other"),
    },
    f"POST {API}/teams/{{team}}/members": {
        "user": Differs("stan", "nora"),
        "role": Shown("test_accounts_teams", "test_each_role_and_each_action"),
    },
    f"PATCH {API}/teams/{{team}}/members/{{user}}": {"role": Differs("member", "admin")},
    f"POST {API}/tokens": {
        "name": Differs("one", "other"),
        "scopes": Differs(None, {"images": "read"}),
        "days": Differs(None, 3),
    },
    LOGIN: {
        "encryptionPublicKey": Refused("x", "must be an RSA public key"),
        "limits": Refused({"maxOthers": 1}, "maxOthers"),
        **{
            f"limits.{name}": Shown("test_fields", "test_limits_of_a_login_are_shown_to_who_approves_it")
            for name in (*(f"max{what}" for what in LIMITS), *TUNNELS)
        },
    },
    f"GET {API}/auth_challenge/status": {"?challenge": Shown("test_accounts_tokens", "test_denied")},
    f"GET {HUB}/": {
        "?limit": _limit("1"),
        "?offset": Differs("0", "1", LIST),
        "?search": Differs(ENVIRONMENT, "nothing", LIST),
        "?owner": Differs("{owner}", "stan", LIST),
        "?visibility": Differs("PUBLIC", "PRIVATE", LIST),
        "?tags": Differs("math", "none", LIST),
        "?sort_by": Differs("name", "created_at", {"sort_order": "asc"}),
        "?sort_order": Differs("asc", "desc", {"sort_by": "name"}),
        "?mine_only": Differs("true", "false", LIST),
        "?starred_only": Differs("true", "false", LIST),
    },
    f"GET {HUB}/facets": {
        "?search": Differs(ENVIRONMENT, "nothing"),
        "?owner": Differs("{owner}", "stan"),
        "?tags": Differs("math", "none"),
    },
    f"GET {NAMED}/@{{version}}/check": {
        "?wait": Shown("test_checks", "test_a_request_is_held_until_something_has_changed")
    },
    **evaluation_cases.CASES,
    f"GET {NAMED}/usage": {
        "?days": Differs("1", "2", LIST),
        "?version": Shown("test_usage", "test_each_version_for_itself"),
    },
    f"GET {NAMED}/@{{version}}/inspect": {
        "?path": Differs("README.md", "pyproject.toml", LIST),
        "?max_bytes": Differs("5", "100", {"path": "README.md"}),
    },
    f"GET {NAMED}/changes": {
        "?from": Refused("9.9.9", "There is no version '9.9.9'"),
        "?to": Refused("9.9.9", "There is no version '9.9.9'"),
    },
    f"PUT {NAMED}/@{{version}}/yank": {"reason": Differs("one", "other")},
    f"POST {NAMED}/transfer": {"to": Shown("test_managing", "test_a_transfer_there_and_back")},
    f"POST {NAMED}/fork": {
        "team_slug": Differs("{team}", "second-team", {}),
        "team_id": Refused("no-such", "There is no team 'no-such'", {}),
        "version": Refused("9.9.9", "There is no version '9.9.9'"),
    },
    f"PATCH {NAMED}": {"visibility": Differs("PUBLIC", "PRIVATE")},
    f"POST {API}/sandbox/status:batchGet": {
        "sandbox_ids": Differs(["{sandbox_id}"], ["none"]),
        "wait": Shown("test_sandboxes", "test_lists_labels_and_batches"),
    },
    f"POST {API}/sandbox/background-jobs/status:batchGet": {
        "jobs": Differs([], [{"sandbox_id": "{sandbox_id}", "job_id": "x"}]),
        "jobs[].sandbox_id": Differs("{sandbox_id}", "none"),
        "jobs[].job_id": Differs("x", "no such"),
    },
    f"POST {BOX}/expose": {
        "port": Differs(8000, 8001),
        "name": Differs("one", "other"),
        "protocol": Differs("HTTP", "TCP"),
    },
    f"PUT {BOX}/egress-policy": {
        "allowlist": Shown("test_fields", "test_where_a_sandbox_may_connect_to"),
        "denylist": Shown("test_fields", "test_where_a_sandbox_may_connect_to"),
    },
    f"POST {API}/sandbox": {
        "name": Differs("one", "other", PLAIN),
        "docker_image": Refused("none-such:v1", "none-such", PLAIN),
        "cpu_cores": Differs(0.5, 0.25, PLAIN),
        "memory_gb": Differs(0.5, 0.25, PLAIN),
        "disk_size_gb": Differs(0.5, 0.25, PLAIN),
        "timeout_minutes": Differs(1, 2, PLAIN),
        "idle_timeout_minutes": Differs(1, 2, {**PLAIN, "timeout_minutes": 5}),
        "labels": Differs(["one"], ["other"], PLAIN),
        "vm": Differs(True, False, PLAIN),
        "environment": Shown("test_secrets", "test_the_owners_sandbox_has_them"),
        "start_command": Shown("test_sandboxes", "test_a_start_command_that_ends"),
        "environment_vars": Shown("test_fields", "test_what_a_sandbox_is_given"),
        "secrets": Shown("test_fields", "test_what_a_sandbox_is_given"),
        "port": Shown("test_fields", "test_what_a_sandbox_is_given"),
        "lease_seconds": Shown("test_sandboxes", "test_a_lease_that_is_not_renewed_ends_it"),
        "idempotency_key": Shown("test_sandboxes", "test_create_is_idempotent_by_key"),
        "image_digest": Refused("sha256:" + "0" * 64, "image"),
        "gpu_count": Refused(1, "no GPUs"),
        "arch": Refused("s390x", "and arch 's390x' was asked for"),
        "network_allowlist": Shown("test_fields", "test_where_a_sandbox_may_connect_to"),
        "network_denylist": Shown("test_fields", "test_where_a_sandbox_may_connect_to"),
        "network_access": Shown("test_fields", "test_where_a_sandbox_may_connect_to"),
        "team_id": TEAM_BOXES,
        "checkpoint_id": Refused("x", "no checkpoints"),
        "volumes": Refused([{"name": "x"}], "no volumes"),
        "registry_credentials_id": Refused("x", "no credentials of registries"),
    },
    f"GET {API}/sandbox": {
        "?page": Differs("1", "2", LIST),
        "?per_page": Differs("1", "100", LIST),
        "?status": Differs("RUNNING", "TERMINATED", LIST),
        "?labels": Differs("kept", "none", LIST),
        "?is_active": Differs("true", "false", LIST),
        "?team_id": TEAM_BOXES,
        "?user_id": TEAM_BOXES,
    },
    f"DELETE {API}/sandbox": {
        "sandbox_ids": Shown("test_sandbox_requests", "test_one_that_is_named_twice_is_ended_once"),
        "labels": Shown("test_sandboxes", "test_lists_labels_and_batches"),
        **dict.fromkeys(("all_users", "team_id", "user_id"), Shown("test_team_sandboxes", "test_who_ends_what")),
    },
    f"GET {BOX}": {"?wait": Shown("test_sandboxes", "test_from_create_to_delete")},
    f"POST {BOX}/lease": {"lease_seconds": Shown("test_sandboxes", "test_a_lease_that_is_not_renewed_ends_it")},
    f"GET {BOX}/logs": {
        "?offset": Differs("0", "3", LIST),
        "?wait": Refused("1", "give offset, too", LIST),
    },
    f"POST {INSIDE}/exec": {
        "command": Differs("echo one", "echo other"),
        "working_dir": Differs("/tmp", "/app", {"command": "pwd"}),
        "env": Differs({"A": "one"}, {"A": "other"}, {"command": "echo $A"}),
        "timeout": Refused(0.1, "", {"command": "sleep 30"}),
        "user": Refused("nobody-at-all", "user"),
    },
    f"POST {INSIDE}/upload": {"?path": Differs("/tmp/one", "/tmp/other", LIST)},
    f"GET {INSIDE}/download": {"?path": Differs("/tmp/kept", "/tmp/more", LIST)},
    f"GET {INSIDE}/read-file": {
        "?path": Differs("/tmp/kept", "/tmp/more", LIST),
        "?offset": Differs("0", "1", FILE_AT),
        "?length": Differs("1", "2", FILE_AT),
    },
    f"GET {INSIDE}/files/stat": {"?path": Differs("/tmp/kept", "/tmp", LIST)},
    f"GET {INSIDE}/files/entries": {"?path": Differs("/tmp", "/app", LIST)},
    f"GET {INSIDE}/files/tree": {"?path": Differs("/tmp", "/app", LIST)},
    f"POST {INSIDE}/files/folder": {"?path": Differs("/f/1", "/f/2", LIST, see=f"GET {INSIDE}/files/entries?path=/f")},
    f"DELETE {INSIDE}/files": {"?path": Refused("/none", NO_FILE, LIST)},
    f"GET {INSIDE}/files": {"?path": Differs("/tmp/kept", "/tmp/more", LIST)},
    f"PUT {INSIDE}/files": {"?path": Differs("/f/3", "/f/4", LIST, see=f"GET {INSIDE}/files/entries?path=/f")},
    f"PUT {INSIDE}/files/tree": {"?path": Differs("/f/5", "/f/6", LIST, see=f"GET {INSIDE}/files/entries?path=/f")},
    f"POST {BY_ID}/secrets": _secret("secret", new=True),
    f"PATCH {BY_ID}/secrets/{{secret_id}}": _secret("secret", new=False),
    f"POST {BY_ID}/variables": _secret("variable", new=True),
    f"PATCH {BY_ID}/variables/{{variable_id}}": _secret("variable", new=False),
    f"GET {API}/secrets/": {"?teamId": Differs(ABSENT, "{team}", LIST)},
    f"POST {API}/secrets/": {
        **_secret("secret", new=True),
        "isFile": Refused(True, "leave isFile out"),
        "teamId": Differs(ABSENT, "{team}", see=f"GET {API}/secrets/?teamId={{team}}"),
    },
    f"PATCH {API}/secrets/{{secret_id}}": {
        **_secret("secret", new=False),
        "isFile": Refused(True, "leave isFile out"),
    },
}

SIGN_UP = Shown("test_accounts", "test_what_cannot_sign_up")
IN_AND_OUT = Shown("test_accounts", "test_sign_up_sign_out_and_in_again")
BY_LINK = Shown("test_accounts", "test_the_machines_owner_comes_in_by_a_link")
ELSEWHERE = Shown("test_accounts", "test_nobody_is_led_elsewhere_by_signing_in")
PASSWORD = Shown("test_accounts", "test_another_password_signs_the_others_out")
KEYS = Shown("test_accounts_tokens", "test_tokens_by_the_page")
TEAM = Shown("test_accounts_teams", "test_a_team_by_the_pages")
OWNER = Shown("test_settings_page", "test_another_owner_and_the_end")
VERSIONS = Shown("test_settings_page", "test_versions")
SECRETS = Shown("test_dashboard_secrets", "test_secrets_of_an_account")
GIVES = Shown("test_dashboard_secrets", "test_what_an_environment_gives")
IMAGES = Shown("test_dashboard_images", "test_an_image_from_its_build_to_its_end")

# The same of pages: what stands in their addresses, and the fields of their forms.
PAGES: dict[str, dict[str, Case]] = {
    "GET /": {
        "?q": Differs("kept", "nothing", LIST),
        "?tag": Differs("math", "none", LIST),
        "?owner": Differs("{owner}", "stan", LIST),
        "?sort": Differs("name", "created_at", LIST),
        "?page": Differs("1", "2", LIST),
    },
    **{
        f"GET {PAGE}{rest}": {"?version": Refused("9.9.9", "There is no version", LIST)}
        for rest in ("", "/files", "/raw/{inside:path}", "/versions", "/check", "/badge.svg")
    },
    f"GET {PAGE}/files/{{inside:path}}": {
        "?version": Refused("9.9.9", "There is no version", LIST),
        "?source": Differs("true", "false", LIST),
    },
    **evaluation_cases.PAGES,
    f"GET {PAGE}/usage": {
        "?days": Shown("test_usage", "test_the_page"),
        "?version": Refused("9.9.9", "There is no version", LIST),
    },
    f"GET {PAGE}/changes": {
        "?from": Refused("9.9.9", "There is no version", LIST),
        "?to": Refused("9.9.9", "There is no version", LIST),
    },
    "GET /dashboard/sign-in": {"?next": ELSEWHERE},
    "GET /dashboard/sign-in/link": {"?code": BY_LINK, "?next": BY_LINK},
    "GET /dashboard/sign-up": {"?next": ELSEWHERE},
    "GET /dashboard/start": {"?new": Shown("test_finding", "test_who_has_just_signed_up_is_told_what_comes_next")},
    "GET /dashboard/account": {"?done": Differs("name", "", LIST)},
    "GET /dashboard/tokens": {"?done": Differs("revoked", "", LIST)},
    "GET /dashboard/tokens/challenge": {"?code": Refused("x", "This login has run out", LIST)},
    "GET /dashboard/teams": {"?done": Differs("left", "", LIST)},
    f"GET {TEAM_PAGE}": {"?done": Differs("added", "", LIST)},
    f"GET {PAGE}/settings": {"?done": Differs("yank", "", LIST)},
    "POST /dashboard/sign-in": {"slug": IN_AND_OUT, "password": IN_AND_OUT, "next": ELSEWHERE},
    "POST /dashboard/sign-up": {**dict.fromkeys(("slug", "password", "name", "email"), SIGN_UP), "next": ELSEWHERE},
    "POST /dashboard/account/profile": {
        name: Differs(f"one@example.{name}", f"other@example.{name}", see="GET /dashboard/account")
        for name in ("name", "email", "about")
    },
    "POST /dashboard/account/name": {"slug": Shown("test_accounts", "test_another_name_keeps_the_former_one")},
    "POST /dashboard/account/password": {"old": PASSWORD, "new": PASSWORD},
    "POST /dashboard/account/sessions": {"session": Shown("test_accounts", "test_sessions_end")},
    "POST /dashboard/tokens": {"name": KEYS, "access": KEYS, "days": KEYS},
    "POST /dashboard/tokens/revoke": {"token": KEYS},
    "POST /dashboard/tokens/challenge": {
        "code": Shown("test_accounts_tokens", "test_the_whole_way"),
        "choice": Shown("test_accounts_tokens", "test_denied"),
    },
    "POST /dashboard/teams": {"slug": TEAM, "name": TEAM},
    f"POST {TEAM_PAGE}/members": {"user": TEAM, "role": TEAM},
    f"POST {TEAM_PAGE}/role": {"user": TEAM, "role": TEAM},
    f"POST {TEAM_PAGE}/remove": {"user": TEAM},
    f"POST {TEAM_PAGE}/settings": {
        "slug": Refused("A B", "cannot be an account name"),
        "name": Differs("One", "Other", see=f"GET {TEAM_PAGE}"),
        "about": Differs("One", "Other", see=f"GET {TEAM_PAGE}"),
    },
    f"POST {TEAM_PAGE}/delete": {"confirm": Refused("x", "Type the team")},
    f"POST {PAGE}/settings/visibility": {"visibility": Shown("test_settings_page", "test_visibility")},
    f"POST {PAGE}/settings/transfer": {"to": OWNER, "confirm": OWNER},
    f"POST {PAGE}/settings/version": dict.fromkeys(("version", "change", "reason", "confirm"), VERSIONS),
    f"POST {PAGE}/settings/delete": {"confirm": OWNER},
    f"POST {PAGE}/check": {"version": Shown("test_checks", "test_the_button_of_the_page")},
    f"POST {PAGE}/star": {"starred": Shown("test_settings_page", "test_stars_and_forks_are_shown")},
    f"GET {PAGE}/secrets": {"?done": Differs("add", "", LIST)},
    f"POST {PAGE}/secrets": dict.fromkeys(("change", "id", "name", "value", "description"), GIVES),
    "GET /dashboard/secrets": {"?team": Differs("", "{team}", LIST), "?done": Differs("add", "", LIST)},
    "POST /dashboard/secrets": {
        **dict.fromkeys(("change", "id", "name", "value", "description"), SECRETS),
        "team": Shown("test_dashboard_secrets", "test_secrets_of_a_team"),
    },
    f"GET {OWNER_PAGE}": {
        "?q": Differs("kept", "nothing", LIST),
        "?tag": Differs("math", "none", LIST),
        "?sort": Differs("name", "created_at", LIST),
        "?page": Differs("1", "2", LIST),
        "?done": Shown("test_settings_page", "test_another_owner_and_the_end"),
    },
    "GET /dashboard/images": {
        "?team": Differs("", "{team}", LIST),
        "?page": Differs("1", "2", LIST),
        "?done": Differs("deleted", "", LIST),
    },
    f"GET {IMAGE_PAGE}": {"?done": Differs("PUBLIC", "", LIST)},
    f"POST {IMAGE_PAGE}/visibility": {"visibility": IMAGES},
    f"POST {IMAGE_PAGE}/delete": {"confirm": IMAGES},
    f"GET {BUILD_PAGE}": {"?done": Differs("cancelled", "", LIST)},
    f"POST {BUILD_PAGE}/delete": {
        "confirm": Shown("test_dashboard_images", "test_a_build_that_failed_says_why_and_goes")
    },
    "GET /dashboard/sandboxes": {
        "?team": Differs("", "{team}", LIST),
        "?show": Differs("running", "all", LIST),
        "?page": Differs("1", "2", LIST),
        "?done": Differs("deleted", "", LIST),
    },
}
