"""Has a project been edited since its image was built? The image plays on as it was, so somebody has to say so."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from verifiers.origin import is_installed_path

if TYPE_CHECKING:
    from prime_core.manifest import Manifest

NAMED_FILES = 3


def edited_since_build(project: Path, manifest: Manifest) -> str | None:
    """One sentence, with what changed and how to build it; None for an image of the project as it is, for an
    installed copy, and for a manifest that does not say what it was built from. Reads every file of the context.

    Raises ProjectError and OSError.
    """
    from prime_core.context import context_digest
    from prime_core.manifest import environment_id_of
    from prime_core.project import read_project

    if manifest.context_digest is None or is_installed_path(project):
        return None
    dockerfile = read_project(project).dockerfile
    if context_digest(project, dockerfile) == manifest.context_digest:
        return None
    return (
        f"The image of {project} was built before its last changes{_newer(project, dockerfile)} and is played as it "
        f"was; to play them: vf-build {environment_id_of(project)}"
    )


def _newer(project: Path, dockerfile: str) -> str:
    """The files written after the manifest, as ` (server.py)`; nothing where times do not tell."""
    from prime_core.context import context_files
    from prime_core.manifest import manifest_path

    built = manifest_path(project).stat().st_mtime_ns
    names = [name for name, path in context_files(project, dockerfile) if path.stat().st_mtime_ns > built]
    more = f" and {len(names) - NAMED_FILES} more" if len(names) > NAMED_FILES else ""
    return f" ({', '.join(names[:NAMED_FILES])}{more})" if names else ""
