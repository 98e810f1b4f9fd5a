"""An environment of the Hub as it is named on the command line; one's own needs no owner."""

from __future__ import annotations

from prime_cli.environments.hub import data_of, hub
from prime_core.errors import InstallError
from prime_core.references import Reference, parse_reference


def named(text: str) -> Reference:
    """`OWNER/NAME[@VERSION]`; or `NAME[@VERSION]`, an environment of the team in force, else of the account.

    Raises InstallError for anything else, and for a bare name where nobody is logged in; APIError.
    """
    from prime_core.config import load_config

    if "/" in text:
        return parse_reference(text)
    try:
        bare = parse_reference(f"owner/{text.strip()}")
    except InstallError:
        return parse_reference(text)  # says what is wrong with what was written
    config = load_config()
    if not config.api_key:
        raise InstallError(
            f"'{text}' is not of the form OWNER/NAME or OWNER/NAME@VERSION.",
            "A name without its owner is one of your own, after 'prime login'; 'prime env list' shows whose there are.",
        )
    with hub() as client:
        account = data_of(client.get("/user/whoami", {"teamId": config.team_id}))
    owner = (account.get("team") or account).get("slug")
    return Reference(str(owner), bare.name, bare.version)
