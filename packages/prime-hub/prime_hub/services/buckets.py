"""Object storage by its address: `s3://BUCKET/PREFIX`, also `gs://` and `az://`, with credentials as the field keeps them.

Those of S3 come from `AWS_…` variables, else from the profile in the usual files, else from what the machine is given by its
cloud; endpoint, region and the style of addresses by the same names (`AWS_ENDPOINT_URL`, `AWS_REGION`,
`AWS_VIRTUAL_HOSTED_STYLE_REQUEST`). Nothing of them is ever part of the address.
"""

from __future__ import annotations

import configparser
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import AzureStore, GCSStore, S3Store, from_url

from prime_hub.errors import Invalid

SCHEMES = ("s3", "gs", "az")
FRESH = timedelta(minutes=5)
"""How long what was read from a file is used before it is read again: others may renew it there."""
OUTAGE = timedelta(seconds=30)
"""How long an answer is tried for."""
GIVEN_OTHERWISE = (
    *("AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_SKIP_SIGNATURE"),
    *("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI"),
)

Bucket = S3Store | GCSStore | AzureStore


def check_address(address: str) -> str:
    """The address of a bucket, without a slash at its end. Raises Invalid."""
    parts = urlsplit(address)
    if parts.scheme not in SCHEMES or not parts.hostname:
        raise Invalid(
            f"'{parts.scheme or address[:40]}' is no object storage; use s3://BUCKET/PREFIX (or gs://, az://)."
        )
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise Invalid("The address of the storage holds no credentials or options; set AWS_ACCESS_KEY_ID and the like.")
    return address.rstrip("/")


def open_bucket(address: str, endpoint: str | None = None) -> Bucket:
    """The bucket, by another endpoint than the configured one where it is given. Raises Invalid."""
    address = check_address(address)
    try:
        if not address.startswith("s3://"):
            found = from_url(address)
            assert isinstance(found, GCSStore | AzureStore)
            return found
        return _s3(address, endpoint)
    except BaseError as error:
        raise Invalid(f"The storage {address} cannot be used: {said(error)}.") from error


def said(error: BaseException) -> str:
    """What a store's error says, on one line: the rest of it is for developers."""
    return str(error).strip().splitlines()[0].strip()[:300].rstrip(".:")


def reason(error: BaseException) -> str:
    """Why a bucket cannot be used, for its operator."""
    if isinstance(error, (PermissionDeniedError, UnauthenticatedError)):
        return "it does not accept the credentials (AWS_ACCESS_KEY_ID and the like) or they may not write there"
    if isinstance(error, FileNotFoundError):
        return "there is no such bucket; make it first"
    return said(error)


def _s3(address: str, endpoint: str | None) -> S3Store:
    parts = urlsplit(address)
    profile = _profile()
    config: dict[str, Any] = {}
    if not (os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")) and profile.get("region"):
        config["region"] = profile["region"]
    configured = (
        *(os.environ.get("AWS_ENDPOINT_URL_S3"), os.environ.get("AWS_ENDPOINT_URL"), os.environ.get("AWS_ENDPOINT")),
        profile.get("endpoint_url"),
    )
    reached = endpoint or next(filter(None, configured), None)
    if reached:
        config["endpoint"] = config["aws_endpoint_url_s3"] = reached.rstrip("/")
    provider = None
    if profile.get("aws_access_key_id") and not any(os.environ.get(name) for name in GIVEN_OTHERWISE):
        provider = _from_files
    return S3Store(
        parts.hostname or "",
        prefix=parts.path.strip("/") or None,
        config=config,  # type: ignore[arg-type]
        client_options={"allow_http": bool(reached and reached.startswith("http://"))},
        credential_provider=provider,
        retry_config={"max_retries": 5, "retry_timeout": OUTAGE},
    )


def _from_files() -> Any:
    found = _profile()
    return {
        "access_key_id": found.get("aws_access_key_id", ""),
        "secret_access_key": found.get("aws_secret_access_key", ""),
        "token": found.get("aws_session_token"),
        "expires_at": datetime.now(UTC) + FRESH,
    }


def _profile() -> dict[str, str]:
    """The profile AWS_PROFILE (`default`) of ~/.aws/config and ~/.aws/credentials; empty where there is none."""
    name = os.environ.get("AWS_PROFILE") or "default"
    home = Path("~/.aws").expanduser()
    files = (
        (os.environ.get("AWS_CONFIG_FILE") or home / "config", name if name == "default" else f"profile {name}"),
        (os.environ.get("AWS_SHARED_CREDENTIALS_FILE") or home / "credentials", name),
    )
    found: dict[str, str] = {}
    for file, section in files:
        parser = configparser.RawConfigParser()
        try:
            parser.read(Path(file).expanduser(), encoding="utf-8")
        except (OSError, UnicodeError, configparser.Error) as error:
            raise Invalid(f"The file {file} cannot be read: {said(error)}.") from error
        if parser.has_section(section):
            found.update(parser.items(section))
    return found
