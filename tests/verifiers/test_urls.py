"""What of an address may be shown."""

from __future__ import annotations

import pytest

from verifiers.utils.urls import shown_url


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://me:hidden@host:1/v1?key=hidden#hidden", "http://host:1/v1"),
        ("http://host/v1?key=hidden&next=http://x", "http://host/v1"),
        ("http://host:1?key=a@hidden", "http://host:1"),
        ("http://host/#hidden", "http://host/"),
        ("http://hidden@[::1]:80/p", "http://[::1]:80/p"),
        *((f"http://me:hid{sign}den@host", "http://host") for sign in "/?#"),
        ("localhost:8000", "localhost:8000"),
    ],
)
def test_an_address_is_shown_without_what_may_be_secret(url, shown):
    assert shown_url(url) == shown
