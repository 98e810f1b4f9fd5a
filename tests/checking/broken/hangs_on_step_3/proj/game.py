"""Broken: the third step never comes back."""

import time

from sound_game import *  # noqa: F403
from sound_game import Game as Sound


class Game(Sound):
    def step(self, action):
        if self.left == 2:
            time.sleep(600)
        return super().step(action)
