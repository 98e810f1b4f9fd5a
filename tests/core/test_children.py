"""Which variables of this process a child program gets."""

from __future__ import annotations

import pytest

from prime_core.children import child_environment, hub_environment


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


def test_a_hub_alone_gets_what_its_storage_takes() -> None:
    given = dict.fromkeys(
        (
            *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "PGPASSWORD"),
            *("PRIME_HUB_SECRET_KEY", "PRIME_HUB_DATABASE_URL", "GOOGLE_APPLICATION_CREDENTIALS", "AZURE_STORAGE_KEY"),
        ),
        "x",
    )
    other = {"OPENAI_API_KEY": "x", "GITHUB_TOKEN": "x"}
    assert hub_environment({**given, **other}) == given
    lost = {"AWS_SECRET_ACCESS_KEY", "PRIME_HUB_SECRET_KEY", "PRIME_HUB_DATABASE_URL"}
    assert not lost & child_environment({**given, **other}).keys()
