"""A rate limit counts tokens too, and says so in words like those for a prompt that is too long."""

from __future__ import annotations

import pytest
from openai_server import error

import verifiers as vf
from verifiers.clients.resolve import as_client


async def test_a_rate_limit_is_not_an_overlong_prompt(openai_server):
    openai_server.reply(error(429, "Your requests exceeded model m's limit of 30000 tokens a minute"))
    client = as_client(vf.ClientConfig(api_base_url=openai_server.url, max_retries=0))
    with pytest.raises(vf.RateLimitError, match="exceeded model"):
        await client.get_response([vf.UserMessage("hi")], "m")
    await client.close()
