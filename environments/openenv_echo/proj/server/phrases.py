"""The game itself, without a server: an episode is a phrase, and a call is worth what it improves on the best one so far."""

from difflib import SequenceMatcher
from random import Random

WHO = ("a grey heron", "the night train", "my grandmother", "an old robot", "the harbour master", "a lost satellite")
DOES = ("counts", "paints", "remembers", "carries", "forgets", "repairs")
WHAT = ("seven umbrellas", "the second moon", "a paper boat", "every bridge", "two quiet clocks", "the last apple")
WHERE = ("in the rain", "before sunrise", "behind the library", "without a word", "on a Tuesday", "for nobody")


def phrase_of(seed: int | None) -> str:
    """The phrase of a seed; without one, any."""
    rng = Random(seed)
    return " ".join(rng.choice(part) for part in (WHO, DOES, WHAT, WHERE))


class Game:
    """One phrase to repeat. The rewards of an episode add up to the best similarity, from 0 to 1."""

    def __init__(self, seed: int | None) -> None:
        self.phrase = phrase_of(seed)
        self.best = 0.0

    def say(self, message: str) -> tuple[float, bool]:
        """The reward of saying `message`, and whether it was the whole phrase."""
        similarity = SequenceMatcher(None, self.phrase, message, autojunk=False).ratio()
        reward = max(0.0, similarity - self.best)
        self.best = max(self.best, similarity)
        return reward, message == self.phrase
