"""`prime env status`, `inspect` and `versions`: looking at one environment of the Hub (protocols/hub.md §3.6)."""

from __future__ import annotations

import sys
from typing import Any

from prime_cli.environments.hub import data_of, hub
from prime_cli.output import Output
from prime_cli.sandboxes.shared import age, size
from prime_core.references import Reference


def show_status(out: Output, reference: Reference, *, as_json: bool) -> None:
    """Print the environment's newest version and who sees it."""
    with hub(require_auth=False) as client:
        found = data_of(client.get(f"{reference.address}/status"))
    if as_json:
        out.json(found)
        return
    newest = found.get("latest_version") or {}
    source = found.get("forked_from") or {}
    out.fields(
        {
            "Environment": f"{reference.owner}/{found.get('name') or reference.name}",
            "Description": found.get("description") or None,
            "Visibility": found.get("visibility"),
            "Stars": found.get("stars"),
            "Forked from": f"{source['owner']}/{source['name']}@{source['version']}" if source else None,
            "Newest": newest.get("semantic_version"),
            "Content hash": newest.get("content_hash"),
            "Published": newest.get("created_at"),
        }
    )


def show_versions(out: Output, reference: Reference, *, full_hashes: bool, as_json: bool) -> None:
    """Print every version, newest first."""
    with hub(require_auth=False) as client:
        found = data_of(client.get(f"{reference.address}/versions"))
    rows: list[dict[str, Any]] = found if isinstance(found, list) else found.get("versions") or []
    if as_json:
        out.json({"versions": rows})
        return
    if not rows:
        out.note("No versions found.")
        return
    out.table(
        ["VERSION", "PUBLISHED", "CONTENT HASH", "YANKED"],
        [
            [
                row.get("version"),
                f"{age(row.get('created_at'))} ago",
                row.get("sha256", "") if full_hashes else row.get("sha256", "")[:12],
                (row.get("yanked_reason") or "yes") if row.get("yanked") else "",
            ]
            for row in rows
        ],
    )
    out.note(f"Install with: prime env install {reference.owner}/{reference.name}@VERSION")


def inspect(out: Output, reference: Reference, path: str, *, max_bytes: int, as_json: bool) -> None:
    """Print a file of the published source as it is, or what is in a folder."""
    with hub(require_auth=False) as client:
        found = data_of(client.get(f"{reference.path}/inspect", {"path": path, "max_bytes": max_bytes}))
    if as_json:
        out.json(found)
        return
    if found.get("kind") == "file":
        content = str(found.get("content") or "")
        sys.stdout.write(content)
        sys.stdout.flush()
        if found.get("truncated"):
            out.note(f"\nOnly the first {max_bytes} of {found.get('total_bytes')} bytes; --max-bytes shows more.")
        return
    out.table(
        ["NAME", "SIZE"],
        [
            [f"{row['name']}/" if row.get("is_directory") else row["name"], size(row.get("size"))]
            for row in found.get("entries") or []
        ],
    )
