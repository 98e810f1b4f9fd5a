"""CartPole-v1 as an OpenEnv server in its plain HTTP form: one process plays one episode at a time."""

from typing import Any, Literal

import gymnasium as gym
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel, Field

NAMES = ("cart_position", "cart_velocity", "pole_angle", "pole_angular_velocity")

app = FastAPI()
env = gym.make("CartPole-v1")
running = False


class Action(BaseModel):
    """One push of the cart."""

    action: Literal["0", "1"] = Field(description="0 pushes the cart to the left, 1 to the right.")


class Observation(BaseModel):
    """Metres, metres per second, radians from upright (positive: leaning right), radians per second."""

    cart_position: float
    cart_velocity: float
    pole_angle: float
    pole_angular_velocity: float


def named(values: Any) -> dict[str, float]:
    return {name: round(float(value), 4) for name, value in zip(NAMES, values, strict=True)}


@app.get("/health")
def health() -> dict[str, str]:
    return {"status": "healthy"}


@app.get("/schema")
def schema() -> dict[str, Any]:
    return {"action": Action.model_json_schema(), "observation": Observation.model_json_schema()}


@app.post("/reset")
def reset(seed: int = 0) -> dict[str, Any]:
    global running
    observation, _ = env.reset(seed=seed)
    running = True
    return {"observation": named(observation), "reward": None, "done": False}


@app.post("/step")
def step(action: Action) -> dict[str, Any]:
    global running
    if not running:
        raise HTTPException(409, "No episode is running: POST /reset first.")
    observation, reward, terminated, truncated, _ = env.step(int(action.action))
    running = not (terminated or truncated)
    return {
        "observation": named(observation),
        "reward": float(reward),
        "done": not running,
        "info": {"terminated": terminated, "truncated": truncated},
    }
