"""A lane of its own, `script/test tests/soak`: these tests run only where this folder, or a file of it, is named."""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Nothing of this folder unless it was asked for by name."""
    invoked = config.invocation_params.dir
    asked = [(invoked / argument.partition("::")[0]).resolve() for argument in config.args]
    return None if any(path.is_relative_to(HERE) for path in asked) else True
