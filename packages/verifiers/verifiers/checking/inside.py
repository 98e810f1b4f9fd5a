"""The program that runs in the sandbox of the environment's code, when the Hub checks a published version: it loads and plays
the environment in a child of its own and tells what came of it, as `loading` does on a user's machine.

`python -I -m verifiers.checking.inside`, spoken to by `link`. Its task: `{"task", "seconds", "server"}`; its last message:
`{"told"}`. It shares its sandbox with the environment's code, so what it tells is that code's word, and nothing else is.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from prime_core.children import child_environment
from verifiers.checking.link import Link, unreadable
from verifiers.checking.loading import play_in


async def main() -> None:
    """Do the task."""
    unreadable()
    link = await Link.over_standard_pipes()
    asked = await link.task()
    task = asked["task"]
    if asked.get("server"):
        task["server_url"], _ = await link.listen(asked["server"])
    with tempfile.TemporaryDirectory(prefix="prime-check-") as scratch:
        environment = child_environment(os.environ)
        told = await play_in(Path(scratch), task, Path(sys.executable), environment, float(asked["seconds"]))
    await link.send({"told": asdict(told)})


if __name__ == "__main__":
    asyncio.run(main())
