"""Which contract a server's source shows, in the shapes that authors give it."""

from __future__ import annotations

from pathlib import Path

import pytest

from prime_core.contract import detect
from tests.core.support import write_files

MODELS = """\
from typing import Annotated, Optional, TypeAlias, Union
from openenv.core.env_server.mcp_types import CallToolAction, ListToolsAction
class Move(Action):
    where: str
Named: TypeAlias = CallToolAction
Chosen = CallToolAction if True else None
Either = Union[CallToolAction, ListToolsAction]
Marked = Annotated[Union[ListToolsAction, CallToolAction], Field(discriminator="type")]
Moves: TypeAlias = Move
Maybe = Optional[Move]
"""


@pytest.mark.parametrize(
    ("action", "contract"),
    [("Named", "mcp"), ("Chosen", "mcp"), ("Either", "mcp"), ("Marked", "mcp"), ("Moves", "gym"), ("Maybe", "gym")],
)
def test_another_name_for_an_action_is_followed(tmp_path: Path, action: str, contract: str):
    app = f"from models import {action}\napp: object = create_app(Env, {action}, Seen)\n"
    write_files(tmp_path, {"models.py": MODELS, "server.py": app})
    assert detect(tmp_path / "server.py") == contract


@pytest.mark.parametrize(
    "source",
    [
        "make = partial(create_app, action_cls=Action)\napp = make(Env)\n",
        "make = functools.partial(create_app, env_name='x')\napp = make(Env, Action, Seen)\n",
    ],
)
def test_a_factory_that_is_half_called(tmp_path: Path, source: str):
    for action, contract in (("Named", "mcp"), ("Move", "gym")):
        write_files(tmp_path, {"models.py": MODELS, "server.py": f"from models import {action} as Action\n{source}"})
        assert detect(tmp_path / "server.py") == contract
