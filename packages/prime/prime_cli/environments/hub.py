"""The Hub as the `prime env` commands speak to it."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from prime_cli.output import out

if TYPE_CHECKING:
    from prime_core.api import APIClient


@contextmanager
def hub(require_auth: bool = True) -> Generator[APIClient]:
    """A client of the Hub in force. Raises NotAuthenticated without a login where that is required."""
    from prime_core.api import APIClient
    from prime_core.connection import connect

    connection = connect(require_auth=require_auth, announce=out.note)
    with APIClient(connection.base_url, connection.api_key) as client:
        yield client


def data_of(answer: dict[str, Any]) -> Any:
    """What an answer holds; it may be wrapped in `data` (protocols/hub.md §3)."""
    return answer.get("data", answer)
