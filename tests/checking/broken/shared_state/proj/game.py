"""Broken: the digit is kept in the module, so the session that was reset last decides for all."""

from sound_game import *  # noqa: F403
from sound_game import Game as Sound

secret = 0


class Game(Sound):
    def reset(self, seed):
        global secret
        observation = super().reset(seed)
        secret = self.secret
        return observation

    def step(self, action):
        self.secret = secret
        return super().step(action)
