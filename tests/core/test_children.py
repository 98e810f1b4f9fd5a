"""Which variables of this process a child program gets."""

from __future__ import annotations

import pytest

from prime_core.children import child_environment


@pytest.mark.parametrize(
    "name",
    [
        "OPENAI_API_KEY",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "SSH_PRIVATE_KEY",
        "HF_TOKEN",
        "GITHUB_PAT",
        "DB_PASS",
        "PGPASSWORD",
        "GOOGLE_APPLICATION_CREDENTIALS",
        "UV_PUBLISH_TOKEN",
    ],
)
def test_secrets_stay_here(name: str):
    assert child_environment({name: "x", "PATH": "/bin"}) == {"PATH": "/bin"}


@pytest.mark.parametrize(
    "name",
    [
        "PATH",
        "HOME",
        "TOKENIZERS_PARALLELISM",
        "UV_INDEX_MINE_PASSWORD",
        "PIP_INDEX_URL",
        "PRIME_HUB_DATA_DIR",
        "GIT_CONFIG_KEY_0",
        "SSH_ASKPASS",
    ],
)
def test_what_programs_need_goes_along(name: str):
    assert child_environment({name: "x"}) == {name: "x"}
