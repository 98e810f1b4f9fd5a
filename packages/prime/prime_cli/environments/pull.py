"""`prime env pull`: a published version's source, byte for byte, into a new folder."""

from __future__ import annotations

import tempfile
from itertools import count
from pathlib import Path
from typing import Any

from prime_cli.environments.record import record_pull
from prime_cli.interrupts import saying
from prime_cli.output import Output
from prime_core.errors import APIError, PackagingError
from prime_core.references import Reference


def pull(reference: Reference, target: Path | None, out: Output) -> Path:
    """Fetch, check and unpack, and say where it is and what comes next; the folder's path is returned. Raises PrimeError,
    and leaves nothing behind then.

    Without `target`: `./environments/<name>` where `./environments` exists, else `./<name>`, with `-1`, `-2`, … when
    taken (protocols/hub.md §3.7). A target that is given must be empty or not there.
    """
    if target is not None:
        _check_empty(target)
    with saying("nothing was written"):
        folder, detail = fetched(reference, target, out)
    name = _name(detail, reference)
    record_pull(
        folder,
        environment_id=str(detail.get("id")),
        owner=_owner(detail, reference),
        name=name,
        version=str(detail.get("semantic_version") or reference.version),
    )
    out.success(f"Environment pulled to {folder}")
    _say_next(folder, name, target is None, out)
    return folder


def fetched(reference: Reference, target: Path | None, out: Output) -> tuple[Path, dict[str, Any]]:
    """The folder that it was unpacked into, and the Hub's description of it."""
    from prime_core.api import APIClient
    from prime_core.connection import connect
    from prime_core.packaging import extract_archive, hash_archive

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
        if detail.get("yanked"):
            reason = f": {detail['yanked_reason']}" if detail.get("yanked_reason") else "."
            out.warning(f"{reference.owner}/{reference.name} {detail.get('semantic_version')} was yanked{reason}")
        folder = target or _free_folder(reference.name)  # never a name that the Hub says, which could lead anywhere
        _unpack(archive, folder, extract_archive)
    return folder, detail


def _say_next(folder: Path, name: str, own_choice: bool, out: Output) -> None:
    """Which commands go on with it. One beside a folder of its name is not found by its name."""
    from prime_core.metadata import module_name
    from prime_core.project import has_project

    taken = folder.with_name(module_name(name))
    if own_choice and folder != taken:
        out.note(f"{taken} is there already and stays as it is; '{name}' goes on to mean that one. Next:")
        out.note(f"  diff -r {taken} {folder}")
        out.note(f"  prime env push -p {folder}    # publishes what is in this one")
        return
    word = name if folder == taken else folder.name
    where = "" if folder.parent == Path("environments") else f" -p {folder.parent}"
    steps = [f"prime env install {word}{where}", f"prime eval run {name} -m baseline/random -n 5"]
    if has_project(folder):
        steps.insert(0, f"vf-build {word}{where}" if folder == taken else f"vf-build -p {folder}")
    out.note("Next:")
    for step in steps:
        out.note(f"  {step}")


def _detail(client: Any, reference: Reference) -> dict[str, Any]:
    answer = client.get(reference.path)
    data = answer.get("data", answer)
    return data if isinstance(data, dict) else {}


def _name(detail: dict[str, Any], reference: Reference) -> str:
    """Its name as the Hub writes it, where that is a way to write what was asked for."""
    from packaging.utils import canonicalize_name

    told = str(detail.get("name") or "")
    return told if canonicalize_name(told) == canonicalize_name(reference.name) else reference.name


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
