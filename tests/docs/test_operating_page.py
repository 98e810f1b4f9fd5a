"""docs/operating.md names no command, option or variable that there is not, and leaves no variable of the Hub out."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from typer.main import get_command

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "operating.md").read_text()


def _help(command: str) -> str:
    return subprocess.run(
        [sys.executable, "-m", "prime_hub", command, "--help"], capture_output=True, text=True, check=True
    ).stdout


def test_its_options_and_variables_are_those_of_the_hub() -> None:
    from prime_cli.commands.hub import app

    known = {
        name: {option for one in command.params for option in one.opts}
        for name, command in get_command(app).commands.items()  # ty: ignore[unresolved-attribute]
    }
    used = re.findall(r"^prime hub (\w+)(.*?)(?:#.*)?$", PAGE, re.MULTILINE)
    assert {name for name, _ in used} >= {"serve", "backup", "restore", "migrate", "stop"}
    for name, words in used:
        for option in re.findall(r"--[a-z-]+", words):
            assert option in known[name], (name, option)
            assert name == "stop" or option in _help(name), (name, option)
    for option in re.findall(r"`(--[a-z-]+)", PAGE):
        assert option in _help("serve"), option
    source = (ROOT / "packages/prime-hub/prime_hub/__main__.py").read_text()
    for variable in set(re.findall(r"PRIME_HUB_[A-Z_]+[A-Z]", PAGE)):
        assert variable in source, variable
    for variable in set(re.findall(r'"(PRIME_HUB_[A-Z_]+[A-Z])"', source)) - {"PRIME_HUB_RUNTIME"}:
        assert variable in PAGE, variable
