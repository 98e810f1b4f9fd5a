"""A theft in a manor, without a server: who was where, what they say about it, and what an accusation is worth."""

from random import Random

GUESTS = ("Ada", "Bruno", "Clara", "Dmitri", "Elsa", "Farid")
ROOMS = ("library", "kitchen", "music room", "greenhouse", "cellar")
HOURS = (18, 19, 20, 21, 22, 23)
THINGS = ("silver clock", "small Vermeer", "emerald ring", "first edition", "jade horse")
QUESTIONS = 12
"""So many questions may be asked; with the next one the police take over."""
GUEST_SHARE, HOUR_SHARE = 0.6, 0.2
PRICE = 0.02
"""What a question takes from the fifth of the reward that is for being quick."""


class Case:
    """One theft. At its hour the thief was alone in the room, and says to have been where two others saw nobody else.

    Everybody else always tells the truth.
    """

    def __init__(self, seed: int | None) -> None:
        rng = Random(seed)
        self.thief, self.hour, self.room = rng.choice(GUESTS), rng.choice(HOURS), rng.choice(ROOMS)
        self.thing = rng.choice(THINGS)
        self.where = {hour: {guest: rng.choice(ROOMS) for guest in GUESTS} for hour in HOURS}
        elsewhere = [room for room in ROOMS if room != self.room]
        others = [guest for guest in GUESTS if guest != self.thief]
        then = self.where[self.hour]
        then.update({guest: rng.choice(elsewhere) for guest in others})
        then[self.thief] = self.room
        self.alibi = rng.choice(elsewhere)
        then.update(dict.fromkeys(rng.sample(others, 2), self.alibi))
        self.asked = 0
        self.over = False

    @property
    def story(self) -> str:
        """What is known at first."""
        return (
            f"The {self.thing} has vanished from the {self.room} of the manor, between {HOURS[0]}:00 and {HOURS[-1]}:59. "
            f"The guests: {', '.join(GUESTS)}. The rooms: {', '.join(ROOMS)}."
        )

    def ask(self, guest: str, hour: int) -> str:
        """Where a guest says to have been at an hour, and with whom."""
        self._count()
        if (guest, hour) == (self.thief, self.hour):
            return f"{guest}: At {hour}:00 I was in the {self.alibi}. I was alone."
        room = self.where[hour][guest]
        company = [other for other in GUESTS if other != guest and self.where[hour][other] == room]
        return f"{guest}: At {hour}:00 I was in the {room}. " + (
            f"With me: {', '.join(company)}." if company else "I was alone."
        )

    def watchman(self, hour: int) -> str:
        """Whether the thing was still there when the hour began."""
        self._count()
        state = "still in its place" if hour <= self.hour else "gone"
        return f"The watchman: When I passed at {hour}:00 sharp, the {self.thing} was {state}."

    def accuse(self, guest: str, hour: int) -> tuple[float, str]:
        """End the case: what the accusation is worth, from 0 to 1, and the truth."""
        self.over = True
        right = guest == self.thief
        worth = GUEST_SHARE * right + HOUR_SHARE * (hour == self.hour)
        if right:
            worth += max(0.0, 1 - GUEST_SHARE - HOUR_SHARE - PRICE * max(0, self.asked - 2))
        return worth, f"It was {self.thief}, at {self.hour}:00. You accused {guest}, at {hour}:00."

    def _count(self) -> None:
        self.asked += 1
        if self.asked > QUESTIONS:
            self.over = True
            raise ValueError("That was one question too many: the police take over.")
