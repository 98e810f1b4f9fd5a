"""A reservoir's year, without a server. Water is counted in million cubic metres."""

from random import Random

MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip
CAPACITY = 60
FLOOD = 20
"""So much water over the dam costs all of a month's worth."""
AHEAD = 3
RAIN = (6, 8, 22, 36, 20, 5, 2, 1, 2, 5, 8, 7)
FIELDS = (0, 0, 4, 9, 15, 21, 25, 23, 13, 5, 0, 0)
TOWN_SHARE = 0.6


class Year:
    """Twelve months. The worth of all of them adds up to at most 1."""

    def __init__(self, seed: int | None) -> None:
        rng = Random(seed)
        wet, dry = rng.uniform(0.7, 1.25), rng.uniform(0.8, 1.3)
        self.inflow = [round(rain * wet * rng.uniform(0.6, 1.4)) for rain in RAIN]
        self.farms = [round(need * dry * rng.uniform(0.85, 1.15)) for need in FIELDS]
        self.town = [rng.randint(7, 10) for _ in MONTHS]
        self.level = rng.randint(20, 45)
        self.month = 0

    @property
    def over(self) -> bool:
        return self.month == len(MONTHS)

    def ahead(self, numbers: list[int]) -> list[int]:
        """This month's number and the next ones."""
        return numbers[self.month : self.month + AHEAD]

    def release(self, town: int, farms: int) -> tuple[float, str]:
        """Let water out for a month: what the month was worth, and what happened, in words.

        The month's inflow comes first, the town is served before the farms, and what then stands above the dam is lost.
        """
        here = self.month
        water = self.level + self.inflow[here]
        given = min(town, water)
        given_farms = min(farms, water - given)
        self.level = water - given - given_farms
        flood = max(0, self.level - CAPACITY)
        self.level -= flood
        shares = (_share(given, self.town[here]), _share(given_farms, self.farms[here]))
        worth = TOWN_SHARE * shares[0] + (1 - TOWN_SHARE) * shares[1]
        worth *= 1 - min(1.0, flood / FLOOD)
        self.month += 1
        told = (
            f"{MONTHS[here]}: the town got {given} of {self.town[here]}, the farms {given_farms} of {self.farms[here]}."
        )
        if given < town or given_farms < farms:
            told += " The reservoir ran empty."
        if flood:
            told += f" {flood} went over the dam and flooded the valley."
        return worth / len(MONTHS), told


def _share(given: int, needed: int) -> float:
    """How far a need is met, from 0 to 1; more than is needed counts nothing."""
    return 1.0 if needed == 0 else min(1.0, given / needed)
