"""Broken: whoever comes to the end has earned 1."""

from sound_game import *  # noqa: F403
from sound_game import Game as Sound


class Game(Sound):
    def step(self, action):
        observation, _, done = super().step(action)
        return observation, float(done), done
