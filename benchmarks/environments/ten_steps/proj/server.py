"""A game of ten steps over the OpenEnv WebSocket wire and nothing else, so that the caller's cost is what is measured."""

import json
import os

from fastapi import FastAPI, WebSocket, WebSocketDisconnect

app = FastAPI()
SCHEMA = {
    "action": {"type": "object", "properties": {"move": {"type": "string"}}, "required": ["move"]},
    "observation": {"type": "object", "properties": {"step": {"type": "integer"}}},
    "state": {"type": "object"},
}


@app.get("/health")
def health() -> dict:
    return {"status": "healthy", "pid": os.getpid()}


@app.get("/schema")
def schema() -> dict:
    return SCHEMA


@app.websocket("/ws")
async def session(socket: WebSocket) -> None:
    await socket.accept()
    step = 0
    try:
        while True:
            request = json.loads(await socket.receive_text())
            if request["type"] == "close":
                return
            step = 0 if request["type"] == "reset" else step + 1
            data = {"observation": {"step": step}, "reward": float(step > 0), "done": step >= 10}
            await socket.send_text(json.dumps({"type": "observation", "data": data}))
    except WebSocketDisconnect:
        return
