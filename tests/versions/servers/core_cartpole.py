"""CartPole on openenv-core: the physics, the action and the observation are those of the example's own HTTP server."""

from typing import Any, Literal

import gymnasium as gym
from openenv.core.env_server.http_server import create_app
from openenv.core.env_server.interfaces import Environment
from openenv.core.env_server.types import Action, Observation, State
from server import named


class Push(Action):
    action: Literal["0", "1"]


class Seen(Observation):
    cart_position: float
    cart_velocity: float
    pole_angle: float
    pole_angular_velocity: float


class CartPole(Environment):
    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self) -> None:
        super().__init__()
        self._env = gym.make("CartPole-v1")
        self._steps = 0

    def reset(self, seed: int | None = None, episode_id: str | None = None, **kwargs: Any) -> Seen:
        observation, _ = self._env.reset(seed=seed)
        self._steps = 0
        return Seen(**named(observation))

    def step(self, action: Push, timeout_s: float | None = None, **kwargs: Any) -> Seen:
        observation, reward, terminated, truncated, _ = self._env.step(int(action.action))
        self._steps += 1
        return Seen(**named(observation), reward=float(reward), done=terminated or truncated)

    @property
    def state(self) -> State:
        return State(step_count=self._steps)


app = create_app(CartPole, Push, Seen, env_name="cartpole", max_concurrent_envs=8)
