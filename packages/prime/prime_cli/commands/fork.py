"""`prime fork`: the same as `prime env fork`."""

from __future__ import annotations

from prime_cli.environments.commands.change import FORK_HELP, fork
from prime_cli.groups import command_app, examples

app = command_app("Make a copy of an environment your own.", group=False)
app.command(
    help=FORK_HELP, epilog=examples("prime fork alice/my-env", "prime fork alice/my-env --team my-team -o json")
)(fork)
