"""Every operation of the Hub's API with a request that it takes, and the things of one account that such requests name."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import httpx

from prime_hub.app import create_app
from prime_hub.settings import Settings
from tests.conftest import RunningHub
from tests.hub import of_evaluations
from tests.hub.browsing import Browser
from tests.hub.images import begin, build, create
from tests.hub.pushing import Push, push

API = "/api/v1"
HUB = f"{API}/environmentshub"
NAMED = f"{HUB}/{{owner}}/{{name}}"
BY_ID = f"{HUB}/{{environment_id}}"
BOX = f"{API}/sandbox/{{sandbox_id}}"
INSIDE = "/gateway/{user_ns}/{sandbox_id}"
PAGE = "/dashboard/environments/{owner}/{name}"
TEAM_PAGE = "/dashboard/teams/{team}"
OWNER_PAGE = "/dashboard/owners/{owner}"
IMAGE_PAGE = "/dashboard/images/{owner}/{name}/{tag}"
BUILD_PAGE = "/dashboard/builds/{build_id}"
BOX_PAGE = "/dashboard/sandboxes/{sandbox_id}"
IMAGE, ENVIRONMENT, TAG = "kept-image", "kept-env", "v1"

UPLOAD = {
    "content_hash": "a" * 64,
    "filename": "kept_env-9.0.0-py3-none-any.whl",
    "sha256": "b" * 64,
    "size": 10,
    "semantic_version": "9.0.0",
    "metadata": {"description": "x", "tags": ["a"]},
}
SECRET = {"name": "A_{upper}", "value": "v", "description": "d"}

# What an operation that takes a body takes; texts have the names of `Owned.values` in braces.
BODIES: dict[str, Any] = {
    f"POST {API}/images/build": {"image_name": "{new}", "image_tag": "v1", "visibility": "PRIVATE"},
    f"POST {API}/images/build/{{build_id}}/start": {"context_uploaded": True},
    f"PATCH {API}/images": {
        "mode": "explicit",
        "dryRun": False,
        "updates": [{"source": {"name": IMAGE, "tag": TAG}, "set": {"visibility": "PUBLIC"}}],
    },
    f"POST {HUB}/resolve": {"name": "{new}", "visibility": "PUBLIC"},
    f"POST {HUB}/check": {"name": "{new}", "semantic_version": "0.1.0"},
    f"POST {HUB}/lookup": {"id": "{environment_id}"},
    f"POST {BY_ID}/wheels": UPLOAD,
    f"POST {BY_ID}/versions": UPLOAD | {"filename": "kept-env-9.0.0-aaaaaaaa.tar.gz"},
    f"PATCH {API}/user/slug": {"slug": "{new}"},
    f"POST {API}/teams": {"slug": "{new}", "name": "Some team"},
    f"PATCH {API}/teams/{{team}}": {"name": "Another"},
    f"POST {API}/teams/{{team}}/members": {"user": "stan", "role": "member"},
    f"PATCH {API}/teams/{{team}}/members/{{user}}": {"role": "admin"},
    f"POST {API}/tokens": {"name": "k", "scopes": {"environments": "read"}, "days": 3},
    f"POST {API}/auth_challenge/generate": {"encryptionPublicKey": "{public_key}", "limits": {}},
    f"PUT {NAMED}/@{{version}}/yank": {"reason": "broken"},
    f"POST {NAMED}/transfer": {"to": "{team}"},
    f"POST {NAMED}/fork": {"team_slug": "{team}", "version": "latest"},
    f"PATCH {NAMED}": {"visibility": "PRIVATE"},
    f"POST {API}/sandbox/status:batchGet": {"sandbox_ids": ["{sandbox_id}"], "wait": 0},
    f"POST {API}/sandbox/background-jobs/status:batchGet": {"jobs": [{"sandbox_id": "{sandbox_id}", "job_id": "x"}]},
    f"POST {BOX}/expose": {"port": 8000, "name": "web", "protocol": "HTTP"},
    f"PUT {BOX}/egress-policy": {"allowlist": ["example.org"], "denylist": None},
    f"POST {API}/sandbox": {
        "name": "s",
        "docker_image": f"{IMAGE}:{TAG}",
        "timeout_minutes": 1,
        "labels": ["fuzz"],
        "environment_vars": {"A": "b"},
        "environment": f"{{owner}}/{ENVIRONMENT}",
    },
    f"DELETE {API}/sandbox": {"sandbox_ids": ["{spare_id}"], "labels": None},
    f"POST {BOX}/lease": {"lease_seconds": 3600},
    f"POST {INSIDE}/exec": {"command": "exit 7", "working_dir": "/", "env": {"A": "b"}, "timeout": 5, "user": None},
    f"POST {INSIDE}/commands": {
        "argv": ["true"],
        "key": "{new}",
        "working_dir": "/",
        "env": {"A": "b"},
        "user": None,
        "stdin": False,
        "pty": None,
        "timeout": 5,
        "linger": 0,
    },
    f"POST {INSIDE}/commands/{{key}}/signal": {"signal": 18},
    f"POST {INSIDE}/commands/{{key}}/resize": {"rows": 10, "columns": 10},
    f"POST {BY_ID}/secrets": SECRET,
    f"PATCH {BY_ID}/secrets/{{secret_id}}": {"value": "w", "description": "e"},
    f"POST {BY_ID}/variables": SECRET,
    f"PATCH {BY_ID}/variables/{{variable_id}}": {"value": "w", "description": "e"},
    **of_evaluations.BODIES,
    f"POST {API}/secrets/": SECRET | {"isFile": False, "teamId": "{team}"},
    f"PATCH {API}/secrets/{{secret_id}}": {"value": "w", "isFile": False},
}

# What an operation that takes a query takes.
FILE = {"path": "/tmp/kept"}
QUERIES: dict[str, dict[str, str]] = {
    f"PUT {API}/uploads/{{kind}}/{{slot}}": {"token": "{upload_token}"},
    f"PUT {API}/uploads/context/{{build_id}}": {"token": "{context_token}"},
    f"GET {API}/images/build/{{build_id}}": {"wait": "0"},
    f"GET {API}/images/build/{{build_id}}/logs": {"offset": "0"},
    f"GET {API}/images": {"limit": "10", "offset": "0", "search": IMAGE},
    f"GET {API}/user/whoami": {"teamId": "{team}"},
    f"GET {API}/user/teams": {"offset": "0", "limit": "10"},
    f"GET {API}/auth_challenge/status": {"challenge": "ABCDE-FGHJK"},
    f"GET {HUB}/": {
        "limit": "10",
        "offset": "0",
        "search": "kept",
        "owner": "{owner}",
        "visibility": "PUBLIC",
        "tags": "math",
        "sort_by": "name",
        "sort_order": "asc",
        "mine_only": "true",
        "starred_only": "false",
    },
    f"GET {NAMED}/usage": {"days": "3", "version": "{version}"},
    **of_evaluations.QUERIES,
    f"GET {NAMED}/@{{version}}/inspect": {"path": "README.md", "max_bytes": "100"},
    f"GET {NAMED}/changes": {"from": "{version}", "to": "latest"},
    f"GET {API}/sandbox": {"page": "1", "per_page": "10", "status": "RUNNING", "labels": "kept", "is_active": "true"},
    f"GET {BOX}": {"wait": "0"},
    f"GET {BOX}/logs": {"offset": "0", "wait": "0"},
    f"POST {INSIDE}/upload": FILE,
    f"GET {INSIDE}/download": FILE,
    f"GET {INSIDE}/read-file": {**FILE, "offset": "0", "length": "10"},
    **{f"GET {INSIDE}/files/{what}": FILE for what in ("stat", "entries", "tree")},
    f"POST {INSIDE}/files/folder": {"path": "/tmp/folder"},
    f"DELETE {INSIDE}/files": {"path": "/tmp/folder"},
    f"GET {INSIDE}/files": {**FILE, "offset": "0", "length": "10"},
    f"PUT {INSIDE}/files": {**FILE, "mode": "644"},
    f"PUT {INSIDE}/files/tree": {"path": "/tmp/folder"},
    f"POST {INSIDE}/commands/{{key}}/stdin": {"eof": "0", "id": "once"},
    f"GET {API}/secrets/": {"teamId": "{team}"},
    "GET /": {"q": "kept", "tag": "math", "owner": "{owner}", "page": "1"},
    f"GET {PAGE}": {"version": "{version}"},
    f"GET {PAGE}/usage": {"days": "30", "version": "{version}"},
    f"GET {PAGE}/files": {"version": "{version}"},
    f"GET {PAGE}/files/{{inside:path}}": {"version": "{version}", "source": "true"},
    f"GET {PAGE}/raw/{{inside:path}}": {"version": "{version}"},
    f"GET {PAGE}/versions": {"version": "{version}"},
    f"GET {PAGE}/changes": {"from": "{version}", "to": "latest"},
    "GET /dashboard/sign-in": {"next": "/dashboard"},
    "GET /dashboard/sign-in/link": {"code": "x", "next": "/"},
    "GET /dashboard/sign-up": {"next": "/dashboard"},
    "GET /dashboard/account": {"done": "name"},
    "GET /dashboard/tokens": {"done": "revoked"},
    "GET /dashboard/tokens/challenge": {"code": "{challenge}"},
    "GET /dashboard/teams": {"done": "left"},
    f"GET {TEAM_PAGE}": {"done": "added"},
    f"GET {PAGE}/settings": {"done": "yank"},
    f"GET {PAGE}/secrets": {"done": "add"},
    f"GET {OWNER_PAGE}": {"q": "{name}", "tag": "math", "sort": "name", "page": "1", "done": "deleted"},
    "GET /dashboard/start": {"new": "yes"},
    "GET /dashboard/images": {"team": "{team}", "page": "1", "done": "deleted"},
    "GET /dashboard/sandboxes": {"team": "{team}", "show": "all", "page": "1", "done": "deleted"},
    "GET /dashboard/secrets": {"team": "{team}", "done": "add"},
    f"GET {IMAGE_PAGE}": {"done": "PUBLIC"},
    f"GET {BUILD_PAGE}": {"done": "cancelled"},
}

# What the forms of pages hold, beside the proof.
FORMS: dict[str, dict[str, str]] = {
    "POST /dashboard/sign-in": {"slug": "stan", "password": "wrong", "next": "/"},
    "POST /dashboard/sign-up": {"slug": "{new}", "password": "x", "name": "N", "email": "a@b.example", "next": "/"},
    "POST /dashboard/sign-out": {},
    "POST /dashboard/account/profile": {"name": "Olga", "email": "a@b.example", "about": "Two\nlines"},
    "POST /dashboard/account/name": {"slug": "{new}"},
    "POST /dashboard/account/password": {"old": "wrong", "new": "x"},
    "POST /dashboard/account/sessions": {"session": "{session}"},
    "POST /dashboard/tokens": {"name": "k", "access": "some", "environments": "read", "days": "3"},
    "POST /dashboard/tokens/revoke": {"token": "{token_id}"},
    "POST /dashboard/tokens/challenge": {"code": "{challenge}", "choice": "deny"},
    "POST /dashboard/teams": {"slug": "{new}", "name": "T"},
    f"POST {TEAM_PAGE}/members": {"user": "stan", "role": "member"},
    f"POST {TEAM_PAGE}/role": {"user": "mel", "role": "admin"},
    f"POST {TEAM_PAGE}/remove": {"user": "mel"},
    f"POST {TEAM_PAGE}/settings": {"slug": "{team}", "name": "T", "about": "x"},
    f"POST {TEAM_PAGE}/delete": {"confirm": "{team}"},
    f"POST {PAGE}/settings/visibility": {"visibility": "PUBLIC"},
    f"POST {PAGE}/settings/transfer": {"to": "{team}", "confirm": f"{{owner}}/{ENVIRONMENT}"},
    f"POST {PAGE}/settings/version": {"version": "{version}", "change": "yank", "reason": "r", "confirm": "{version}"},
    f"POST {PAGE}/settings/delete": {"confirm": f"{{owner}}/{ENVIRONMENT}"},
    f"POST {PAGE}/star": {"starred": "yes"},
    **of_evaluations.FORMS,
    f"POST {PAGE}/secrets": {"change": "set", "id": "x", "name": "V_{upper}", "value": "v", "description": "d"},
    "POST /dashboard/secrets": {"change": "add", "id": "x", "team": "", **SECRET},
    f"POST {IMAGE_PAGE}/visibility": {"visibility": "PUBLIC"},
    f"POST {IMAGE_PAGE}/delete": {"confirm": "wrong"},
    f"POST {BUILD_PAGE}/cancel": {},
    f"POST {BUILD_PAGE}/delete": {"confirm": "wrong"},
    f"POST {BOX_PAGE}/delete": {},
}


@cache
def document() -> dict[str, Any]:
    """The Hub's own OpenAPI document."""
    with tempfile.TemporaryDirectory() as folder:
        return create_app(Settings(Path(folder))).openapi()


def operations() -> list[str]:
    """`METHOD /path` of every operation of the document."""
    return [f"{method.upper()} {path}" for path, methods in document()["paths"].items() for method in methods]


@dataclass
class Owned:
    """An account with one of each thing. What a request has taken away is there again after `restore`."""

    hub: RunningHub
    key: str = ""
    values: dict[str, str] = field(default_factory=dict)
    client: httpx.Client = field(init=False)
    browser: Browser = field(init=False)
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def __post_init__(self) -> None:
        self.key = self.key or self.hub.add_user("olga")
        self.client = self.hub.client(self.key)
        self.browser = Browser(self.hub)
        self.values = {
            "owner": "olga",
            "name": ENVIRONMENT,
            "project": ENVIRONMENT,
            "user": "mel",
            "kind": "wheel",
            "tag": TAG,
            "rest": "x",
            "path": "x",
            "inside": "README.md",
            "check": "seed-ignored",
            "public_key": public_key(),
            "distribution": self._distribution(),
        }
        for other in ("mel", "stan"):
            self.hub.add_user(other)

    def new(self) -> str:
        """A name that nothing has yet."""
        return f"x{next(self._numbers)}x"

    def filled(self, given: Any) -> Any:
        """What was given, with its texts filled in; of one request all new names are the same."""
        new = self.new()
        return _filled(given, {**self.values, "new": new, "upper": new.upper()})

    def path_values(self, path: str) -> dict[str, str]:
        """What the parameters of a path stand for."""
        found = dict(self.values)
        if path.startswith((f"{API}/images", "/dashboard/images")):
            found["name"] = IMAGE
        if path.startswith(f"{API}/distributions"):
            found["filename"] = found["distribution"]
        if path.startswith(f"{API}/secrets") or "/secrets/link/" in path:
            found["secret_id"] = found["global_id"]
        if path.startswith("/ports/"):
            found["token"] = found["port_token"]
        return found

    def send(self, method: str, url: str, endless: bool = False, **options: Any) -> httpx.Response:
        """A request with what the address takes: the account's key, the sandbox's token, or the browser's cookie.

        Of an answer that is `endless` only the beginning is waited for.
        """
        headers = dict(options.pop("headers", {}))
        if url.startswith("/dashboard/") or url.partition("?")[0] == "/":
            headers = {"Accept": "text/html", "User-Agent": "Test browser", **headers}
            client = self.browser.client
        elif url.startswith("/gateway/"):
            client, headers = self.client, {"Authorization": f"Bearer {self.values['gateway_token']}", **headers}
        elif (method, url.partition("?")[0]) == ("DELETE", f"{API}/tokens/current"):
            client, headers = self.client, {"Authorization": f"Bearer {self._data('/tokens', name='x')['token']}"}
        else:
            client = self.client
        asked = client.build_request(method, f"{self.hub.url}{url}", headers=headers, **options)
        answer = client.send(asked, stream=True, follow_redirects=False)
        try:
            if not endless or answer.is_error:
                answer.read()
        finally:
            answer.close()
        return answer

    def restore(self, path: str = "{}") -> None:
        """Make again what is missing of what the path names, or of all."""
        for names, make in self._makers().items():
            if path == "{}" or any(f"{{{name}}}" in path for name in names):
                make()

    def _makers(self) -> dict[tuple[str, ...], Callable[[], None]]:
        return {
            ("image", "tag", "sandbox_id"): self._image,
            ("environment_id", "project", "version", "filename", "name", "secret_id", "variable_id"): self._environment,
            ("slot",): self._slot,
            ("secret_id", "variable_id"): self._secrets,
            ("team",): self._team,
            ("token_id",): self._token,
            ("build_id",): self._build,
            ("sandbox_id", "exposure_id", "key", "token"): self._sandbox,
            ("evaluation_id", "sample_id"): self._evaluation,
            ("session",): self._session,
        }

    def _distribution(self) -> str:
        return self.client.get("/distributions").json()["distributions"][0]["filename"]

    def _data(self, path: str, **body: Any) -> dict[str, Any]:
        answer = self.client.post(path, json=body)
        assert answer.is_success, (path, answer.text)
        return answer.json()["data"]

    def _there(self, path: str, name: str) -> bool:
        return name in self.values and self.client.get(path.format(**self.values)).is_success

    def _image(self) -> None:
        if not self.client.get(f"/images/{IMAGE}/{TAG}").is_success:
            assert build(self.client, IMAGE, TAG)["status"] == "COMPLETED"

    def _environment(self) -> None:
        if not self._there(f"/environmentshub/{{owner}}/{ENVIRONMENT}/@{{version}}", "version"):
            one = push(self.client, ENVIRONMENT, f"0.{next(self._numbers)}.0")
            self.values |= {"version": one.version, "filename": one.wheel_filename, "wheel_id": one.wheel_id}
            self.values |= {"environment_id": one.environment_id, "version_id": one.version_id}

    def _slot(self) -> None:
        coming = Push(self.client, ENVIRONMENT, f"1.{next(self._numbers)}.0")
        coming.environment_id = self.values["environment_id"]
        assert coming.prepare_wheel().is_success and coming.wheel_url
        self.values |= {"slot": coming.wheel_id, "upload_token": coming.wheel_url.partition("token=")[2]}

    def _secrets(self) -> None:
        base = "/environmentshub/{environment_id}"
        rows = self.client.get(f"{base}/secrets".format(**self.values)).json()["data"]
        own = [row["id"] for row in rows if row["source"] == "environment"]
        if self.values.get("secret_id") not in own:
            body = _filled(SECRET, {"upper": self.new().upper()})
            self.values["secret_id"] = self._data(f"{base}/secrets".format(**self.values), **body)["id"]
        rows = self.client.get(f"{base}/variables".format(**self.values)).json()["data"]
        if self.values.get("variable_id") not in [row["id"] for row in rows]:
            body = _filled(SECRET, {"upper": self.new().upper()})
            self.values["variable_id"] = self._data(f"{base}/variables".format(**self.values), **body)["id"]
        if not self._there("/secrets/{global_id}", "global_id"):
            body = _filled(SECRET, {"upper": self.new().upper()})
            self.values["global_id"] = self._data("/secrets/", **body)["id"]

    def _team(self) -> None:
        if not self._there("/teams/{team}", "team"):
            self.values["team"] = self._data("/teams", slug=f"t-{self.new()}", name="Team")["slug"]
        self.client.post("/teams/{team}/members".format(**self.values), json={"user": "mel"})

    def _token(self) -> None:
        rows = self.client.get("/tokens").json()["data"]
        if self.values.get("token_id") not in [row["id"] for row in rows]:
            self.values["token_id"] = self._data("/tokens", name="spare")["id"]

    def _build(self) -> None:
        if "build_id" in self.values:
            state = self.client.get("/images/build/{build_id}".format(**self.values)).json()
            if state.get("status") == "UPLOADING":
                return
        begun = begin(self.client, self.new())
        self.values |= {"build_id": begun["build_id"], "context_token": begun["upload_url"].partition("token=")[2]}

    def _sandbox(self) -> None:
        running = self.client.get("/sandbox", params={"status": "RUNNING"}).json()["sandboxes"]
        if self.values.get("sandbox_id") not in [row["id"] for row in running]:
            auth = create(self.client, f"{IMAGE}:{TAG}", timeout_minutes=60, labels=["kept"])["gatewayAuth"]
            self.values |= {"sandbox_id": auth["job_id"], "user_ns": auth["user_ns"], "gateway_token": auth["token"]}
            self.values |= {"spare_id": "0" * 24}
        box = f"{API}/sandbox/{self.values['sandbox_id']}"
        far = {"X-Forwarded-For": "192.0.2.1"}
        exposed = self.send("POST", f"{box}/expose", json={"port": 8000}, headers=far).json()
        self.values |= {"exposure_id": exposed["exposure_id"]}
        self.values["port_token"] = exposed["url"].rpartition("/")[2]
        inside = INSIDE.format(**self.values)
        keys = [row["key"] for row in self.send("GET", f"{inside}/commands").json()["commands"] if row["running"]]
        if self.values.get("key") not in keys:
            body = {"argv": ["sleep", "600"], "key": self.new(), "stdin": True, "linger": 600}
            options: dict[str, Any] = {"headers": {"Authorization": f"Bearer {self.values['gateway_token']}"}}
            with self.client.stream("POST", f"{self.hub.url}{inside}/commands", json=body, **options) as started:
                assert started.is_success
                next(started.iter_bytes())
            self.values["key"] = body["key"]

    def _evaluation(self) -> None:
        """One of three rollouts, and a later one beside it."""
        if not self._there("/evaluations/{evaluation_id}/samples/{sample_id}", "sample_id"):
            self._environment()
            for name, model in (("kept", "m"), ("later", "other")):
                body = _filled(of_evaluations.DESCRIBED, self.values) | {"name": name, "model_name": model}
                made = self.client.post("/evaluations/", json=body).json()["evaluation_id"]
                for end, given in (("samples", {"samples": of_evaluations.SAMPLES}), ("finalize", {})):
                    assert self.client.post(f"/evaluations/{made}/{end}", json=given).is_success
                self.values |= {"evaluation_id" if name == "kept" else "later_id": made}
            rows = self.client.get("/evaluations/{evaluation_id}/samples?summary=true".format(**self.values)).json()
            self.values["sample_id"] = rows["samples"][0]["sample_id"]

    def _session(self) -> None:
        if "Sign out" not in self.browser.get("/").text:
            link = self._data("/user/sign-in-link")
            assert self.browser.get(f"{link['path']}?code={link['code']}").status == 200
        page = self.browser.get("/dashboard/account")
        form = page.form("/dashboard/account/profile")
        self.values["proof"] = form.fields["proof"]
        self.values["session"] = "0" * 24
        challenge = self.client.post("/auth_challenge/generate", json={"encryptionPublicKey": public_key()})
        self.values["challenge"] = challenge.json().get("challenge", "ABCDE-FGHJK")


@cache
def public_key() -> str:
    """An RSA key in PEM, as programs send it that log in."""
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    key = rsa.generate_private_key(65537, 2048).public_key()
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def _filled(given: Any, values: dict[str, str]) -> Any:
    if isinstance(given, dict):
        return {key: _filled(item, values) for key, item in given.items()}
    if isinstance(given, list):
        return [_filled(item, values) for item in given]
    if isinstance(given, str):
        return re.sub(r"\{(\w+)\}", lambda found: values.get(found[1], found[0]), given)
    return given
