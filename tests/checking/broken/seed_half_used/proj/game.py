"""Broken: reset draws from the seed, and step from the random module's own generator."""

import random

from sound_game import *  # noqa: F403
from sound_game import Game as Sound


class Game(Sound):
    def step(self, action):
        observation, reward, done = super().step(action)
        return {**observation, "text": f"{observation['text']} Lucky number: {random.random()}."}, reward, done
