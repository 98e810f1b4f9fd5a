"""What OpenEnv servers say, read strictly: results, errors, tool lists. No I/O in here.

Both dialects answer with the same objects (protocols of openenv-core 0.2 to 0.10 and of plain FastAPI servers):
`{"observation": …, "reward": number | null, "done": bool}`, and JSON-RPC for the list of tools.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import count
from typing import Any

from verifiers.openenv.errors import ActionRejected, CapacityReached, SessionLost, UnusableReward

JSON = dict[str, Any]
_rpc_ids = count(1)

# The session is over after these (openenv-core sends them and closes); every other code leaves it alive.
FATAL_CODES = frozenset({"CAPACITY_REACHED", "FACTORY_ERROR", "SESSION_ERROR"})


@dataclass(frozen=True, slots=True)
class StepResult:
    """One answer to reset or step. `reward` as sent, null included; `metadata` and `info` where the server has them."""

    observation: Any
    reward: bool | int | float | None = None
    done: bool = False
    metadata: Any = None
    info: Any = None


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool of an MCP environment: `parameters` is its JSON Schema."""

    name: str
    description: str
    parameters: JSON


class RPCError(Exception):
    """The server answered a JSON-RPC request with an error or with something that is no answer."""


def read_result(data: Any, what: str) -> StepResult:
    """Read the answer to `what` ("reset" or "step").

    Raises: SessionLost when it is no such answer: the server speaks another protocol and nothing can be scored;
    UnusableReward.
    """
    if not isinstance(data, dict):
        raise SessionLost(f"OpenEnv {what} result is not a JSON object but {_kind(data)}.")
    if "observation" not in data:
        raise SessionLost(f"OpenEnv {what} result is missing required `observation`.")
    reward = data.get("reward")
    if reward is not None and not isinstance(reward, bool | int | float):
        raise UnusableReward(f"OpenEnv {what} result has a `reward` that is no number but {_kind(reward)}.")
    if isinstance(reward, float) and not math.isfinite(reward):
        raise UnusableReward(f"OpenEnv {what} result has a `reward` of {reward}, which cannot be scored.")
    observation = data["observation"]
    metadata = data.get("metadata")
    if not metadata and isinstance(observation, dict):
        metadata = observation.get("metadata") or metadata
    return StepResult(observation, reward, bool(data.get("done", False)), metadata, data.get("info"))


def error_text(data: Any) -> str:
    """One readable line from an error body: openenv-core's `message` and `errors`, FastAPI's `detail`, or the text."""
    if isinstance(data, dict):
        problems = data.get("errors")
        if isinstance(problems, list) and problems:
            return "; ".join(_problem(item) for item in problems)
        for key in ("message", "detail", "error"):
            value = data.get(key)
            if isinstance(value, list) and value:
                return "; ".join(_problem(item) for item in value)
            if isinstance(value, dict):
                return error_text(value)
            if value:
                return str(value)
    return str(data)


def frame_error(data: Any) -> Exception:
    """The exception for a WebSocket error frame's `data`."""
    data = data if isinstance(data, dict) else {"message": data}
    code, text = str(data.get("code") or "ERROR"), error_text(data)
    if code == "CAPACITY_REACHED":
        limit = data.get("max_sessions")
        return CapacityReached(
            f"The OpenEnv server takes no further session: {text}", limit if isinstance(limit, int) else None
        )
    if code == "SESSION_ERROR" and "Unable to serialize unknown type" in text:
        # openenv-core up to 0.10 cannot write down what a validator of the author's own has raised.
        text += (
            " The action was refused by a validator of the environment's own, which the server could not report; refuse "
            "such an action in the environment's step instead."
        )
    if code in FATAL_CODES:
        return SessionLost(f"The OpenEnv server ended the session ({code}): {text}")
    return ActionRejected(text, code)


def rpc_request(method: str, params: JSON | None = None) -> JSON:
    """A JSON-RPC 2.0 request. `params` is always there: servers read it without asking."""
    return {"jsonrpc": "2.0", "id": next(_rpc_ids), "method": method, "params": params or {}}


def read_rpc(reply: Any) -> Any:
    """The `result` of a JSON-RPC reply, bare or in the `{"data": …}` envelope. Raises: RPCError."""
    if isinstance(reply, dict) and "jsonrpc" not in reply and isinstance(reply.get("data"), dict):
        reply = reply["data"]
    if not isinstance(reply, dict):
        raise RPCError("Invalid MCP response: missing JSON-RPC data object.")
    if reply.get("jsonrpc") != "2.0":
        raise RPCError("Invalid MCP response: jsonrpc must be '2.0'.")
    if reply.get("error") is not None:
        error = reply["error"] if isinstance(reply["error"], dict) else {"message": reply["error"]}
        raise RPCError(f"MCP RPC error ({error.get('code')}): {error.get('message')}")
    if "result" not in reply:
        raise RPCError("Invalid MCP response: missing result.")
    return reply["result"]


def read_tools(result: Any) -> list[ToolSpec]:
    """The tools of a tools/list result; both spellings of the schema's key. Raises: RPCError."""
    if not isinstance(result, dict):
        raise RPCError("Invalid MCP tools/list result: expected object.")
    listed = result.get("tools")
    if not isinstance(listed, list):
        raise RPCError("Invalid MCP tools/list result: missing tools list.")
    tools = []
    for tool in listed:
        if not isinstance(tool, dict) or not isinstance(tool.get("name"), str) or not tool["name"]:
            continue
        schema = tool.get("input_schema") or tool.get("inputSchema") or {"type": "object", "properties": {}}
        tools.append(ToolSpec(tool["name"], str(tool.get("description") or ""), schema))
    if not tools:
        raise RPCError("MCP tools/list returned no usable tools.")
    return tools


def _problem(item: Any) -> str:
    """A pydantic error (`loc`, `msg`) as `field: message`; the place in the request body is of no use to a model."""
    if not isinstance(item, dict) or "msg" not in item:
        return str(item)
    place = ".".join(str(part) for part in item.get("loc") or () if part != "body")
    return f"{place}: {item['msg']}" if place else str(item["msg"])


def _kind(value: Any) -> str:
    return "null" if value is None else f"{type(value).__name__} {str(value)[:80]!r}"
