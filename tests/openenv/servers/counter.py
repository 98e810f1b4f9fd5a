"""A server that speaks openenv-core's WebSocket protocol: count to three, gym or MCP, with the ways such servers fail.

Environment: CAPACITY (sessions at once, default 100), MCP=1 (tools instead of actions).
An action of {"move": …}: up, slow (0.3 s), hang, crash (an exception), die (the process), nonsense (no JSON), nan (a reward), stop.
"""

import asyncio
import json
import os

from fastapi import FastAPI, WebSocket, WebSocketDisconnect

CAPACITY = int(os.environ.get("CAPACITY", "100"))
MCP = os.environ.get("MCP") == "1"
MOVES = ["up", "slow", "hang", "crash", "die", "nonsense", "nan", "stop"]

app = FastAPI()
active = 0

GYM_SCHEMA = {"type": "object", "properties": {"move": {"type": "string", "enum": MOVES}}, "required": ["move"]}
MCP_SCHEMA = {
    "type": "object",
    "properties": {"type": {"const": "call_tool"}, "tool_name": {"type": "string"}, "arguments": {"type": "object"}},
}
TOOLS = [
    {
        "name": "count",
        "description": "Count up.",
        "inputSchema": {"type": "object", "properties": {"move": {"type": "string"}}},
    }
]


@app.get("/health")
def health():
    return {"status": "healthy", "active": active}


@app.get("/schema")
def schema():
    return {"action": MCP_SCHEMA if MCP else GYM_SCHEMA, "observation": {"type": "object"}, "state": {"type": "object"}}


@app.post("/reset")
def stateless_reset():
    return {"observation": {"text": "a stateless reset, of no use to anybody"}, "reward": None, "done": False}


class Episode:
    def __init__(self):
        self.seed = None
        self.count = 0

    def result(self, reward):
        done = self.count >= 3
        observation = {"seed": self.seed, "count": self.count}
        if MCP and reward is not None:
            observation = {"tool_name": "count", "result": {"data": observation, "is_error": False}, "error": None}
        return {
            "type": "observation",
            "data": {"observation": observation, "reward": reward, "done": done, "metadata": {"pid": os.getpid()}},
        }

    async def answer(self, message):
        kind, data = message.get("type"), message.get("data") or {}
        if kind == "reset":
            self.seed, self.count = data.get("seed"), data.get("start", 0)
            await asyncio.sleep(data.get("pause", 0))
            if self.seed == 1313:
                return error("EXECUTION_ERROR", "thirteen is unlucky")
            return self.result(None)
        if kind == "state":
            return {"type": "state", "data": {"count": self.count}}
        if kind == "mcp":
            if not MCP:
                return {
                    "type": "mcp",
                    "data": {"jsonrpc": "2.0", "id": data["id"], "error": {"code": -32603, "message": "no MCP here"}},
                }
            return {"type": "mcp", "data": {"jsonrpc": "2.0", "id": data["id"], "result": {"tools": TOOLS}}}
        if kind != "step":
            return error("UNKNOWN_TYPE", f"Unknown message type: {kind}")
        move = (data.get("arguments") or {}).get("move") if MCP else data.get("move")
        if MCP and data.get("tool_name") != "count":
            failed = {
                "tool_name": data.get("tool_name"),
                "result": None,
                "error": {"error_type": "tool_not_found", "message": "no such tool"},
            }
            return {"type": "observation", "data": {"observation": failed, "reward": None, "done": False}}
        if move not in MOVES:
            return error(
                "VALIDATION_ERROR", "Invalid message", errors=[{"loc": ["move"], "msg": f"'{move}' is not a move"}]
            )
        if move == "slow":
            await asyncio.sleep(0.3)
        if move == "hang":
            await asyncio.sleep(3600)
        if move == "crash":
            return error("EXECUTION_ERROR", "the abacus fell over")
        if move == "die":
            print("somebody pulled the plug", flush=True)
            os._exit(9)
        if move == "nonsense":
            return "{{{"
        if move == "nan":
            return self.result(float("nan"))
        self.count = 3 if move == "stop" else self.count + 1
        return self.result(1.0)


def error(code, message, **more):
    return {"type": "error", "data": {"message": message, "code": code, **more}}


@app.websocket("/ws")
async def session(socket: WebSocket):
    global active
    await socket.accept()
    if active >= CAPACITY:
        refusal = error(
            "CAPACITY_REACHED",
            f"Server at capacity: {active}/{CAPACITY}",
            active_sessions=active,
            max_sessions=CAPACITY,
        )
        await socket.send_text(json.dumps(refusal))
        await socket.close()
        return
    active += 1
    episode = Episode()
    try:
        while True:
            message = json.loads(await socket.receive_text())
            if message.get("type") == "close":
                await asyncio.sleep(0.02)  # an environment takes its time to go
                break
            reply = await episode.answer(message)
            await socket.send_text(reply if isinstance(reply, str) else json.dumps(reply))
    except WebSocketDisconnect:
        return
    finally:
        active -= 1
    await socket.close()
