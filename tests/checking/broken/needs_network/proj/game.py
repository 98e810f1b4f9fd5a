"""Broken: reset fetches what the image should hold."""

import urllib.request

from sound_game import *  # noqa: F403
from sound_game import Game as Sound


class Game(Sound):
    def reset(self, seed):
        with urllib.request.urlopen("http://words.example/digits.txt", timeout=5) as answer:
            answer.read()
        return super().reset(seed)
