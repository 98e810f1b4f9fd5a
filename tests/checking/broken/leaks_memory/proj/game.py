"""Broken: every episode leaves a megabyte behind."""

from sound_game import *  # noqa: F403
from sound_game import Game as Sound

kept = []


class Game(Sound):
    def reset(self, seed):
        kept.append(bytearray(b"x" * 1_000_000))
        return super().reset(seed)
