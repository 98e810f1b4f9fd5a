"""What goes over the wire: the water to let out of the reservoir, and the state of things at the start of a month."""

from openenv.core.env_server.types import Action, Observation
from pydantic import Field


class Release(Action):
    """This month's water, in million cubic metres."""

    town: int = Field(ge=0, le=40, description="Water for the town.")
    farms: int = Field(ge=0, le=40, description="Water for the farms.")


class Month(Observation):
    """The start of a month; `inflow`, `town` and `farms` are this month's numbers and those of the two after it."""

    month: str
    level: int
    capacity: int
    inflow: list[int]
    town: list[int]
    farms: list[int]
    report: str = ""
