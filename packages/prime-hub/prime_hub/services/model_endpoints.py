"""Where the models of hosted evaluations answer: what the operator has named in a file (`serve --model-endpoints FILE`).

    [[endpoint]]
    name = "lab"                                 how it is told of
    url = "http://10.0.0.5:8000/v1"              as sandboxes reach it
    models = ["Qwen/Qwen3-8B"]                   the names that -m takes
    key_var = "LAB_KEY"                          a variable of the Hub's own process that holds the key; or
    key_file = "/run/secrets/lab"                a file of its machine; neither: it takes no key
    type = "openai_chat_completions"             the API that it speaks; this one where it is left out
    accounts = ["alice", "a-team"]               who may use it; ["*"]: everybody. Left out: accounts made on this machine

The file is read whenever a run is asked for and when it begins, so that a change needs no restart. A key is in no database
and in no answer: it is read when the run begins and given to that run's sandbox only.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from prime_hub.db.models import Account
from prime_hub.errors import Forbidden, Invalid, Unavailable

BASELINE = "baseline/"
TYPES = ("openai_chat_completions", "openai_completions", "openai_responses", "anthropic_messages")
_FIELDS = frozenset({"name", "url", "models", "key_var", "key_file", "type", "accounts"})


@dataclass(frozen=True)
class Endpoint:
    """One `[[endpoint]]`."""

    name: str
    url: str
    models: tuple[str, ...]
    client_type: str = TYPES[0]
    accounts: tuple[str, ...] | None = None
    key_var: str | None = None
    key_file: str | None = None

    def open_to(self, accounts: Sequence[Account]) -> bool:
        """Whether one of these, who asks and whose the run is, may use it."""
        if self.accounts is None:
            return accounts[0].local
        return "*" in self.accounts or any(account.slug in self.accounts for account in accounts)

    def key(self, variables: Mapping[str, str] | None = None) -> str | None:
        """Its key; None where it takes none. Raises Unavailable where that is named and not there."""
        found: str | None
        if self.key_var is not None:
            found = (os.environ if variables is None else variables).get(self.key_var)
        elif self.key_file is not None:
            try:
                found = Path(self.key_file).read_text(encoding="utf-8")
            except (OSError, ValueError):
                found = None
        else:
            return None
        if not (found or "").strip():
            raise Unavailable(
                f"The Hub has no key of the endpoint '{self.name}'; its operator looks at key_var or key_file in the file of "
                "--model-endpoints."
            )
        return (found or "").strip()


@dataclass(frozen=True)
class Endpoints:
    """The operator's file; None: there is none, and hosted evaluations are of baselines."""

    file: Path | None = None

    def read(self) -> tuple[Endpoint, ...]:
        """All of them (blocking). Raises Unavailable with what is wrong with the file."""
        if self.file is None:
            return ()
        try:
            written = tomllib.loads(self.file.read_text(encoding="utf-8"))
            tables = written.pop("endpoint", [])
            if written:
                raise ValueError(f"it has '{next(iter(written))}', and only [[endpoint]] is known")
            found = tuple(_endpoint(table, number) for number, table in enumerate(tables, 1))
        except (OSError, ValueError, TypeError) as error:
            raise Unavailable(
                f"The Hub's list of model endpoints cannot be read ({error}); its operator mends the file of "
                "--model-endpoints."
            ) from None
        return found

    def of(self, model: str, accounts: Sequence[Account]) -> Endpoint | None:
        """Where a model answers (blocking); None for a baseline, which needs none. `accounts`: who asks, then whose it is.

        Raises Invalid for a model that this Hub has no endpoint of, Forbidden for one that is not theirs, Unavailable.
        """
        if model.startswith(BASELINE):
            return None
        serving = [one for one in self.read() if model in one.models]
        for one in serving:
            if one.open_to(accounts):
                return one
        if serving:
            raise Forbidden(
                f"The endpoint '{serving[0].name}' of this Hub is not open to {accounts[0].slug}; its operator names who may "
                "use it (accounts in the file of --model-endpoints)."
            )
        theirs = sorted({name for one in self.read() if one.open_to(accounts) for name in one.models})
        if theirs:
            shown = ", ".join(theirs[:10]) + (" and others" if len(theirs) > 10 else "")
            raise Invalid(f"This Hub serves no model '{model[:80]}' to hosted evaluations; use {shown}, or a baseline.")
        raise Invalid(
            f"This Hub knows no endpoint of the model '{model[:80]}': it runs baselines (-m baseline/random). Its operator "
            "names endpoints with 'prime hub start --model-endpoints FILE'; evaluations of any model run on your own machine "
            "with 'prime eval run'."
        )


def _endpoint(table: Any, number: int) -> Endpoint:
    place = f"[[endpoint]] number {number}"
    if not isinstance(table, dict):
        raise ValueError(f"{place} is no table")
    if unknown := sorted(table.keys() - _FIELDS):
        raise ValueError(f"{place} has '{unknown[0]}', and known are {', '.join(sorted(_FIELDS))}")
    for name in ("name", "url"):
        if not isinstance(table.get(name), str) or not table[name]:
            raise ValueError(f"{place} needs a text {name}")
    parts = urlsplit(table["url"])
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        raise ValueError(f"the url of {place} is no http(s) address without credentials")
    for name in ("key_var", "key_file"):
        if name in table and not isinstance(table[name], str):
            raise ValueError(f"{name} of {place} is no text")
    if "key_var" in table and "key_file" in table:
        raise ValueError(f"{place} has both key_var and key_file")
    kind = table.get("type", TYPES[0])
    if kind not in TYPES:
        raise ValueError(f"the type of {place} is none of {', '.join(TYPES)}")
    models = _texts(table.get("models"), f"models of {place}")
    accounts = _texts(table["accounts"], f"accounts of {place}") if "accounts" in table else None
    return Endpoint(table["name"], table["url"], models, kind, accounts, table.get("key_var"), table.get("key_file"))


def _texts(given: Any, what: str) -> tuple[str, ...]:
    if not isinstance(given, list) or not given or not all(isinstance(one, str) and one for one in given):
        raise ValueError(f"{what} are not a list of texts")
    return tuple(given)
