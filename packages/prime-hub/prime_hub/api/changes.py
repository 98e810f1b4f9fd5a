"""What changed between two versions of an environment."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from prime_hub.api.deps import API, CallerDep, HubDep
from prime_hub.db.models import Version
from prime_hub.services.comparing import Comparison, FileChange

router = APIRouter(prefix=f"{API}/environmentshub", tags=["environments"])


class Side(BaseModel):
    """One of the two versions."""

    version: str
    content_hash: str


class FieldRow(BaseModel):
    """Something that is said of the version: `dependencies`, `python`, `tags`, `description`, `image` and so on."""

    field: str
    removed: list[str]
    added: list[str]


class FileRow(BaseModel):
    """A file that is not the same. Sizes are in bytes; null on the side where the file is not."""

    path: str
    status: Literal["added", "removed", "changed"]
    size_before: int | None
    size_after: int | None
    added_lines: int | None
    removed_lines: int | None
    diff: str | None = Field(description="The hunks of a unified diff; only of a file that is `changed`.")
    no_diff_because: Literal["binary", "too_large", "too_many", "entangled"] | None = Field(
        description="Why a changed file has no `diff`: it is no text, too large, one of too many, or so different that "
        "comparing its lines would take too long."
    )


class Counts(BaseModel):
    """How many files there are of each status, those that are not listed included."""

    added: int
    removed: int
    changed: int


class Changes(BaseModel):
    """What changed from one version to the other. `files_left_out` of the counted files are not in `files`."""

    before: Side = Field(serialization_alias="from")
    after: Side = Field(serialization_alias="to")
    metadata: list[FieldRow]
    files: list[FileRow]
    counts: Counts
    files_left_out: int


class ChangesAnswer(BaseModel):
    """The answer."""

    data: Changes


@router.get("/{owner}/{name}/changes")
async def changes(
    owner: str,
    name: str,
    hub: HubDep,
    caller: CallerDep,
    before: Annotated[
        str,
        Query(
            alias="from",
            max_length=80,
            description="A version as `@VERSION` names it, or `previous`: the one whose number is next below `to`.",
        ),
    ] = "previous",
    after: Annotated[
        str, Query(alias="to", max_length=80, description="A version as `@VERSION` names it, or `latest`.")
    ] = "latest",
) -> ChangesAnswer:
    """What changed between two versions: metadata, and files with the lines that differ. Long answers are cut."""
    environment = await hub.catalogue.environment(caller, owner, name)
    return ChangesAnswer(data=_changes(await hub.comparing.compare(environment, before, after)))


def _changes(found: Comparison) -> Changes:
    return Changes(
        before=_side(found.before),
        after=_side(found.after),
        metadata=[FieldRow(field=one.name, removed=one.removed, added=one.added) for one in found.fields],
        files=[_file(one) for one in found.files],
        counts=Counts(**found.counts),
        files_left_out=found.left_out,
    )


def _side(version: Version) -> Side:
    return Side(version=version.version, content_hash=version.content_hash)


def _file(change: FileChange) -> FileRow:
    lines = change.lines
    return FileRow.model_validate(
        {
            "path": change.path,
            "status": change.status,
            "size_before": change.size_before,
            "size_after": change.size_after,
            "added_lines": lines.added if lines else None,
            "removed_lines": lines.removed if lines else None,
            "diff": "".join(f"{line}\n" for line in lines.unified()) if lines else None,
            "no_diff_because": change.why,
        }
    )
