"""Broken: the environment needs a file that is not in the image; /health knows nothing of it."""

from pathlib import Path

from sound_game import *  # noqa: F403
from sound_game import Game as Sound


class Game(Sound):
    def __init__(self):
        self.words = Path("/data/words-that-are-not-in-the-image.txt").read_text()
