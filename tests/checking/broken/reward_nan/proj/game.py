"""Broken: the second guess is worth NaN."""

from sound_game import *  # noqa: F403
from sound_game import Game as Sound


class Game(Sound):
    def step(self, action):
        observation, reward, done = super().step(action)
        return observation, float("nan") if self.left == 2 else reward, done
