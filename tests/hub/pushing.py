"""The six calls of a push, step by step, as a client makes them; and small real wheels and archives to push."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
import zipfile
from dataclasses import dataclass, field
from typing import Any

import httpx

README = "# A test environment\n\nIt does **little**.\n"


def make_wheel(name: str, version: str, extra: str = "", headers: str = "") -> bytes:
    """A valid pure-Python wheel with one module; `headers` are more of its METADATA."""
    module, folder = name.replace("-", "_"), f"{name.replace('-', '_')}-{version}.dist-info"
    files = {
        f"{module}.py": f"VERSION = {version!r}\n{extra}",
        f"{folder}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{headers}",
        f"{folder}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},,\n" for path in files) + f"{folder}/RECORD,,\n"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, text in {**files, f"{folder}/RECORD": record}.items():
            archive.writestr(zipfile.ZipInfo(path, (2024, 1, 1, 0, 0, 0)), text)
    return buffer.getvalue()


def make_archive(files: dict[str, bytes], reverse: bool = False) -> bytes:
    """A `.tar.gz` of these files, in order of their paths or the other way round."""
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) as zipped, tarfile.open(fileobj=zipped, mode="w") as archive:
        for path, data in sorted(files.items(), reverse=reverse):
            member = tarfile.TarInfo(path)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def hash_files(files: dict[str, bytes]) -> str:
    """The content hash, computed independently of the code under test (hub.md §3.2)."""
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(b"file:" + path.encode() + files[path])
    return digest.hexdigest()


@dataclass
class Push:
    """One push of one version, a step at a time."""

    client: httpx.Client
    name: str = "my-env"
    version: str = "0.1.0"
    files: dict[str, bytes] = field(default_factory=dict)
    visibility: str | None = None
    team: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    wheel: bytes = b""
    archive: bytes = b""
    environment_id: str = ""
    wheel_id: str = ""
    wheel_url: str | None = None
    version_id: str = ""
    version_url: str = ""

    def __post_init__(self) -> None:
        project = f'[project]\nname = "{self.name}"\nversion = "{self.version}"\ndescription = "Made for a test"\n'
        module = self.name.replace("-", "_")
        base = {"README.md": README.encode(), "pyproject.toml": project.encode()}
        self.files = {**base, f"{module}.py": b"def load_environment():\n    return None\n", **self.files}
        self.wheel = self.wheel or make_wheel(self.name, self.version)
        self.archive = self.archive or make_archive(self.files)
        self.metadata = {"description": "Made for a test", "tags": ["math", "eval"], **self.metadata}

    @property
    def content_hash(self) -> str:
        return hash_files(self.files)

    @property
    def wheel_filename(self) -> str:
        return f"{self.name.replace('-', '_')}-{self.version}-py3-none-any.whl"

    def resolve(self) -> httpx.Response:
        asked = {"name": self.name, "visibility": self.visibility, "team_slug": self.team}
        body = {name: value for name, value in asked.items() if value}
        answer = self.client.post("/environmentshub/resolve", json=body)
        if answer.is_success:
            self.environment_id = answer.json()["data"]["id"]
        return answer

    def prepare_wheel(self, **changes: Any) -> httpx.Response:
        body = {
            "content_hash": self.content_hash,
            "filename": self.wheel_filename,
            "sha256": hashlib.sha256(self.wheel).hexdigest(),
            "size": len(self.wheel),
            "semantic_version": self.version,
            "metadata": self.metadata,
        }
        answer = self.client.post(f"/environmentshub/{self.environment_id}/wheels", json={**body, **changes})
        if answer.is_success:
            self.wheel_id, self.wheel_url = answer.json()["data"]["wheel_id"], answer.json()["data"]["upload_url"]
        return answer

    def upload_wheel(self) -> httpx.Response | None:
        return put(self.wheel_url, self.wheel) if self.wheel_url else None

    def finalize_wheel(self) -> httpx.Response | None:
        if not self.wheel_url:
            return None
        return self.client.post(f"/environmentshub/{self.environment_id}/wheels/{self.wheel_id}/finalize", content=b"")

    def prepare_version(self, **changes: Any) -> httpx.Response:
        body = {
            "content_hash": self.content_hash,
            "filename": f"{self.name}-{self.version}-{self.content_hash[:8]}.tar.gz",
            "sha256": hashlib.sha256(self.archive).hexdigest(),
            "semantic_version": self.version,
            "metadata": self.metadata,
        }
        answer = self.client.post(f"/environmentshub/{self.environment_id}/versions", json={**body, **changes})
        if answer.is_success:
            data = answer.json()["data"]
            self.version_id, self.version_url = data["version_id"], data["upload_url"]
        return answer

    def upload_archive(self) -> httpx.Response:
        return put(self.version_url, self.archive)

    def finalize_version(self) -> httpx.Response:
        return self.client.post(
            f"/environmentshub/{self.environment_id}/versions/{self.version_id}/finalize", content=b""
        )

    def steps(self) -> list[Any]:
        """Every step in order."""
        return [
            self.resolve,
            self.prepare_wheel,
            self.upload_wheel,
            self.finalize_wheel,
            self.prepare_version,
            self.upload_archive,
            self.finalize_version,
        ]

    def run(self, until: int | None = None) -> httpx.Response:
        """The first `until` steps, or all; the last step's answer. Raises for a step before it that is refused."""
        answer = None
        for step in self.steps()[:until]:
            if answer is not None:
                assert answer.is_success, (step.__name__, answer.status_code, answer.text)
            answer = step() or answer
        assert answer is not None
        return answer


def put(url: str, data: bytes) -> httpx.Response:
    """An upload as clients do it: no authorisation, absolute address."""
    with httpx.Client(trust_env=False, timeout=60) as client:
        return client.put(url, content=data, headers={"Content-Type": "application/octet-stream"})


def push(client: httpx.Client, name: str = "my-env", version: str = "0.1.0", **options: Any) -> Push:
    """A whole push that must succeed."""
    one = Push(client, name, version, **options)
    answer = one.run()
    assert answer.status_code == 200, answer.text
    return one
