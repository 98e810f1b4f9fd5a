"""Folders of tests that are lanes of their own: they run only where they are named."""

from __future__ import annotations

from pathlib import Path

import pytest


def ignored_unless_named(folder: Path, config: pytest.Config) -> bool | None:
    """For `pytest_ignore_collect` of `folder`: nothing of it unless it, or a file of it, was asked for by name."""
    invoked = config.invocation_params.dir
    asked = [(invoked / argument.partition("::")[0]).resolve() for argument in config.args]
    return None if any(path.is_relative_to(folder) for path in asked) else True
