"""`prime env pull`: a published version's source, byte for byte, into a new folder."""

from __future__ import annotations

import tempfile
from itertools import count
from pathlib import Path
from typing import Any

from prime_cli.environments.record import record_pull
from prime_cli.environments.references import Reference
from prime_cli.output import Output
from prime_core.errors import APIError, PackagingError


def pull(reference: Reference, target: Path | None, out: Output) -> Path:
    """Fetch, check and unpack; the folder's path is returned. Raises PrimeError, and leaves nothing behind then.

    Without `target`: `./environments/<name>` where `./environments` exists, else `./<name>`, with `-1`, `-2`, … when
    taken (protocols/hub.md §3.7). A target that is given must be empty or not there.
    """
    from prime_core.api import APIClient
    from prime_core.connection import connect
    from prime_core.packaging import extract_archive, hash_archive

    if target is not None:
        _check_empty(target)
    connection = connect(require_auth=False, announce=out.note)
    with APIClient(connection.base_url, connection.api_key) as client, tempfile.TemporaryDirectory() as scratch:
        detail = _detail(client, reference)
        url = detail.get("tracked_package_url") or detail.get("package_url")
        if not url:
            raise APIError("No downloadable package found", hint=f"{reference} has no source archive on this Hub.")
        archive = client.download(str(url), Path(scratch) / "package.tar.gz", detail.get("package_sha256"), timeout=60)
        found, announced = hash_archive(archive), detail.get("content_hash")
        if announced and found != announced:
            raise PackagingError(
                f"The source of {reference} has the content hash {found[:12]}…, but the Hub announced "
                f"{announced[:12]}…; nothing was unpacked."
            )
        folder = target or _free_folder(str(detail.get("name") or reference.name))
        _unpack(archive, folder, extract_archive)
    record_pull(
        folder,
        environment_id=str(detail.get("id")),
        owner=_owner(detail, reference),
        name=str(detail.get("name") or reference.name),
        version=str(detail.get("semantic_version") or reference.version),
    )
    return folder


def _detail(client: Any, reference: Reference) -> dict[str, Any]:
    answer = client.get(reference.path)
    data = answer.get("data", answer)
    return data if isinstance(data, dict) else {}


def _owner(detail: dict[str, Any], reference: Reference) -> str:
    owner = detail.get("owner")
    return str(owner.get("name") if isinstance(owner, dict) else owner or reference.owner)


def _check_empty(target: Path) -> None:
    if target.is_dir() and not any(target.iterdir()):
        return
    if target.exists() or target.is_symlink():
        what = "is not empty" if target.is_dir() else "is not a folder"
        raise PackagingError(
            f"{target} {what}, and a pull never writes over files.", "Name another folder with --target."
        )


def _free_folder(name: str) -> Path:
    base = Path("environments") if Path("environments").is_dir() else Path()
    stem = name.replace("-", "_")
    for number in count():
        folder = base / (f"{stem}-{number}" if number else stem)
        if not folder.exists() and not folder.is_symlink():
            return folder
    raise AssertionError


def _unpack(archive: Path, folder: Path, extract: Any) -> None:
    """Unpack beside `folder` and move it there in one step, so that a failure leaves nothing."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".prime-pull-", dir=folder.parent) as scratch:
        fresh = Path(scratch) / "tree"
        fresh.mkdir()
        extract(archive, fresh)
        fresh.chmod(0o755)
        fresh.rename(folder)  # takes the place of an empty folder too, never of one with files
