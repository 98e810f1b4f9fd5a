"""The echo game behind plain HTTP: POST /reset, POST /step, and POST /mcp for the list of tools."""

from typing import Any

from fastapi import FastAPI
from server.phrases import Game

app = FastAPI()
game = Game(None)
TOOL = {
    "name": "echo_message",
    "description": "Say `message`; it comes back as it was understood.",
    "inputSchema": {"type": "object", "properties": {"message": {"type": "string"}}, "required": ["message"]},
}


@app.get("/health")
def health():
    return {"status": "ok"}


@app.get("/schema")
def schema():
    call = {"type": {"enum": ["call_tool"]}, "tool_name": {"type": "string"}, "arguments": {"type": "object"}}
    return {"observation": {"type": "object"}, "action": {"type": "object", "properties": call}}


@app.post("/reset")
def reset(seed: int = 0):
    global game
    game = Game(seed)
    return {"observation": {"phrase": game.phrase}, "done": False}


@app.post("/step")
def step(action: dict[str, Any]):
    message = str(action["arguments"]["message"])
    reward, done = game.say(message)
    return {"observation": message, "reward": reward, "done": done}


@app.post("/mcp")
def mcp(request: dict[str, Any]):
    asked = request["data"]
    return {"data": {"jsonrpc": "2.0", "id": asked["id"], "result": {"tools": [TOOL]}}}
