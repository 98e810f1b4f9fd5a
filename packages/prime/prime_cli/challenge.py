"""Login by a browser: a throwaway key, a code that a person approves, an API key that comes back encrypted.

Source: protocols/hub.md §2.1.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from prime_cli import browser
from prime_cli.output import out
from prime_core.errors import APIError, APITimeout, NotAuthenticated, NotFound, Unreachable

if TYPE_CHECKING:
    from prime_core.api import APIClient

POLL_SECONDS = 1.0
PATIENCE = 10
"""How many polls in a row may find no Hub."""
LONGEST_SECONDS = 900.0


class Throwaway:
    """A key pair for one login; its private half never leaves this process."""

    def __init__(self) -> None:
        from cryptography.hazmat.primitives.asymmetric import rsa

        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    @property
    def pem(self) -> str:
        """The public half."""
        from cryptography.hazmat.primitives import serialization

        form = serialization.PublicFormat.SubjectPublicKeyInfo
        return self._key.public_key().public_bytes(serialization.Encoding.PEM, form).decode()

    def decrypted(self, result: str) -> str:
        """What the Hub encrypted. Raises APIError when it is not for this key."""
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import padding

        scheme = padding.OAEP(mgf=padding.MGF1(algorithm=hashes.SHA256()), algorithm=hashes.SHA256(), label=None)
        try:
            return self._key.decrypt(base64.b64decode(result, validate=True), scheme).decode()
        except ValueError:
            raise APIError(
                "The Hub's answer to the login cannot be decrypted.", hint="Run 'prime login' again."
            ) from None


def log_in(url: str, pages: str, headless: bool, limits: Mapping[str, int]) -> str:
    """An API key of the person who approves this login in a browser; waits for them.

    Raises NotAuthenticated when it was denied or has run out, APIError. Ctrl-C gives up; nothing is saved then.
    """
    from prime_core.api import APIClient

    key = Throwaway()
    with APIClient(url) as client:
        asked: dict[str, Any] = {"encryptionPublicKey": key.pem} | ({"limits": dict(limits)} if limits else {})
        try:
            started = client.post("/auth_challenge/generate", asked)
        except NotFound:
            raise NotAuthenticated(
                f"{url} offers no login by a browser.",
                f"Give it an API key: prime login --base-url {url} --token-stdin < key.txt",
            ) from None
    code, status_token = started.get("challenge"), started.get("status_auth_token")
    if not isinstance(code, str) or not isinstance(status_token, str):
        raise APIError(
            f"{url} did not answer the login with a code, so it may not be a Hub.", hint="Check the address."
        )
    address = started.get("url")
    if not isinstance(address, str) or not address.startswith(("http://", "https://")):
        address = f"{pages}/dashboard/tokens/challenge?code={quote(code)}"
    limit = started.get("expires_in")
    seconds = min(float(limit), LONGEST_SECONDS) if isinstance(limit, int) and limit > 0 else LONGEST_SECONDS
    opened = not headless and browser.show(address)
    try:
        out.note("Approve the login in your browser, which opens now:" if opened else "Approve the login in a browser:")
        out.note(f"  {address}")
        out.note(f"Code: {code}")
        out.note("Waiting for authentication... (Ctrl-C gives up)")
        with APIClient(url, status_token) as client:
            return key.decrypted(_wait(client, code, seconds, time.sleep))
    except KeyboardInterrupt:
        out.note("\nThe login was given up; nothing has changed.")
        raise


def _wait(client: APIClient, code: str, seconds: float, sleep: Callable[[float], object]) -> str:
    """The encrypted result, once a person has approved."""
    deadline, silent = time.monotonic() + seconds + 30, 0
    again = "Run 'prime login' again."
    while time.monotonic() < deadline:
        try:
            result = client.get("/auth_challenge/status", {"challenge": code}, timeout=10).get("result")
            silent = 0
        except NotFound as error:
            raise NotAuthenticated(error.detail or "This login has run out.", again) from None
        except (Unreachable, APITimeout):
            silent += 1
            if silent >= PATIENCE:
                raise
            result = None
        if result:
            return str(result)
        sleep(POLL_SECONDS)
    raise NotAuthenticated("Nobody has approved the login in time.", again)
