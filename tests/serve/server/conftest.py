"""A server of the engine that tests script, and the official client of it."""

import openai
import pytest

from aloe_jax.serve.server.server import Server


@pytest.fixture
def server(engine, chat_format):
    with Server(engine, chat_format, "tiny") as server:
        yield server


@pytest.fixture
def sdk(server):
    with openai.OpenAI(base_url=server.base_url, api_key="any", max_retries=0) as sdk:
        yield sdk
