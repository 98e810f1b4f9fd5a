"""Signing up, signing in by a password, changing it; with bounds on guessing.

Who guesses learns nothing: a name that is not there, one without a password and a wrong password take as long and get the
same sentence.
"""

from __future__ import annotations

import ipaddress

from prime_hub.db.models import Account
from prime_hub.errors import Conflict, Forbidden
from prime_hub.services.accounts import Accounts, checked_email, checked_name
from prime_hub.services.guessing import Tries
from prime_hub.services.names import check_slug
from prime_hub.services.passwords import Passwords, checked_password
from prime_hub.services.sessions import Sessions
from prime_hub.settings import Settings

GUESS_SECONDS = 900
GUESSES_HERE = 10
"""Wrong passwords for one account from one address."""
GUESSES_ACCOUNT = 100
"""For one account from everywhere."""
GUESSES_ADDRESS = 50
"""For all accounts from one address."""
SIGN_UPS_ADDRESS = 50
"""Attempts to make an account, also with a name that is taken."""
WRONG = "That account name and password do not belong together."
CLOSED = "Nobody can sign up on this Hub by themselves; ask its operator for an account ('prime hub user add NAME' makes one)."


class SigningIn:
    """By which a person becomes somebody."""

    def __init__(self, settings: Settings, accounts: Accounts, sessions: Sessions) -> None:
        self._settings = settings
        self._accounts = accounts
        self._sessions = sessions
        self._passwords = Passwords()
        self._here = Tries(GUESSES_HERE, GUESS_SECONDS)
        self._account = Tries(GUESSES_ACCOUNT, GUESS_SECONDS)
        self._address = Tries(GUESSES_ADDRESS, GUESS_SECONDS)
        self._sign_ups = Tries(SIGN_UPS_ADDRESS, GUESS_SECONDS)

    @property
    def open(self) -> bool:
        """Whether anybody may sign up."""
        return self._settings.sign_up

    async def sign_up(self, slug: str, password: str, name: str, email: str, address: str) -> Account:
        """A new account. Raises Forbidden where sign-up is closed, Invalid, Conflict, TooMany."""
        if not self.open:
            raise Forbidden(CLOSED)
        check_slug(slug)
        checked_password(password, slug)
        checked_name(name)
        checked_email(email)
        self._sign_ups.count(_network(address), "attempts to make an account")
        if await self._accounts.by_slug(slug) is not None:
            raise Conflict(f"There is already an account named '{slug}' on this Hub.")
        kept = await self._passwords.hashed(password)
        return await self._accounts.create(slug, kept, name, email)

    async def sign_in(self, slug: str, password: str, address: str) -> Account:
        """Whose name and password these are. Raises Forbidden with one sentence for every mistake, TooMany."""
        slug, network = slug.strip().lower()[:64], _network(address)
        # Counted before they are compared, so that many at once are no way around the bound.
        tries = [(self._address, network), (self._account, slug), (self._here, f"{slug} {network}")]
        for counter, key in tries:
            counter.count(key, "wrong passwords")
        account = await self._accounts.by_slug(slug)
        kept = account.password if account is not None and account.kind == "user" else None
        if not await self._passwords.holds(password, kept) or account is None:
            raise Forbidden(WRONG)
        for counter, key in tries:
            counter.forgive(key)
        return account

    async def change(self, account: Account, old: str, new: str, keep: str | None) -> None:
        """Another password; all browsers but the one of session `keep` are signed out.

        An account that has none yet gives no old one. Raises Forbidden, Invalid, TooMany.
        """
        fresh = await self._accounts.by_id(account.id)
        if fresh is not None and fresh.password is not None:
            self._account.count(account.slug, "wrong passwords")
            if not await self._passwords.holds(old, fresh.password):
                raise Forbidden("That is not the password as it is now.")
            self._account.forgive(account.slug)
        await self._set(account, new, keep)

    async def set(self, account: Account, new: str) -> None:
        """A password given by the Hub's operator; every browser of the account is signed out. Raises Invalid."""
        await self._set(account, new, None)

    async def _set(self, account: Account, new: str, keep: str | None) -> None:
        kept = await self._passwords.hashed(checked_password(new, account.slug))
        await self._accounts.set_password(account, kept)
        await self._sessions.end_all(account.id, but=keep)


def _network(address: str) -> str:
    """The address; of IPv6 the part that one customer has."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address[:64]
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped:
            return str(found.ipv4_mapped)
        return str(ipaddress.ip_network((found, 64), strict=False))
    return str(found)
