"""A sandbox that ended where it should have gone on, told with its exit code and its last words."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from prime_core.errors import PrimeError

if TYPE_CHECKING:
    from prime_sandboxes import Sandbox, SandboxClient

LAST_LINES = 10
LOOKS = 5
PAUSE_SECONDS = 0.2


def settled(client: SandboxClient, made: Sandbox, *, patiently: bool) -> Sandbox:
    """The sandbox, when it still runs at a second look; `patiently`, at several within a second, as a program takes to
    find out that it cannot go on. Raises PrimeError for one that has ended.
    """
    for look in range(LOOKS if patiently else 1):
        if made.status != "RUNNING":
            break
        if look or patiently:
            time.sleep(PAUSE_SECONDS)
        made = client.get(made.id)
    if made.status != "RUNNING":
        raise _ended(client, made)
    return made


def _ended(client: SandboxClient, made: Sandbox) -> PrimeError:
    context = client.error_context(made.id)
    why = context.error_message or made.error_message or f"Sandbox {made.id} has ended (status={made.status})."
    hints = []
    if lines := (context.logs or "").rstrip().splitlines()[-LAST_LINES:]:
        hints += ["The end of its log:", *(f"  {line}" for line in lines)]
    if context.exit_code == 0:
        hints.append("A sandbox lives as long as its start command; 'sleep infinity' is one that stays.")
    elif "There is no program" in why:
        hints.append(
            "A start command is a program of the image with its arguments, or a line of the shell: \"sh -c '…'\"."
        )
    return PrimeError(why, "\n".join([*hints, f"'prime sandbox get {made.id}' shows all that is known of it."]))
