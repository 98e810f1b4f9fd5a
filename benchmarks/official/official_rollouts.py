"""Rollouts by the official client, run by the interpreter of its own virtual environment.

As released, its OpenEnvEnv cannot be constructed: it hands messages to `datasets.Dataset.from_list` as pydantic objects, which
pyarrow refuses. So they are made dicts on their way there. That is all that is changed, from outside, and it happens once, before
the first rollout; nothing of the client itself is touched.
"""

from __future__ import annotations

from typing import Any

import datasets
from rollouts import MOVE, arguments, play

import verifiers as vf
from verifiers.types import Response, ResponseMessage


class Instant(vf.Client):
    """Answers at once with the game's one move, inside the process."""

    def setup_client(self, config: Any) -> Any:
        return None

    async def to_native_tool(self, tool: Any) -> Any:
        return tool

    async def to_native_prompt(self, messages: Any) -> tuple[Any, dict[str, Any]]:
        return messages, {}

    async def get_native_response(self, prompt: Any, model: str, *_: Any, **__: Any) -> str:
        return MOVE

    async def raise_from_native_response(self, response: str) -> None:
        return None

    async def from_native_response(self, response: str) -> Response:
        message = ResponseMessage(content=response, finish_reason="stop", is_truncated=False)
        return Response(id="", created=0, model="instant", message=message)

    async def close(self) -> None:
        return None


def plain(value: Any) -> Any:
    """The same with dicts in the place of pydantic objects."""
    if hasattr(value, "model_dump"):
        return value.model_dump(exclude_none=True)
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list) else value


def main() -> None:
    told = arguments(__doc__).parse_args()
    from_list = datasets.Dataset.from_list
    datasets.Dataset.from_list = lambda rows, *rest, **more: from_list(plain(rows), *rest, **more)
    config = vf.ClientConfig(api_key_var="BENCH_MODEL_KEY", api_base_url=told.model_url)
    play(told, Instant(config) if told.policy else config)


if __name__ == "__main__":
    main()
