"""A server with a real engine of a tiny random model, for clients that are used as they come."""

import jax
import pytest

from aloe_jax.decode.constraint import Grammar
from aloe_jax.decode.engine import Engine
from aloe_jax.models import decoder
from aloe_jax.serve.server.server import Server
from helpers.byte_model import TINY


@pytest.fixture(scope="session")
def params():
    return decoder.init_params(TINY, jax.random.key(0))


@pytest.fixture(scope="session")
def server(params, chat_format):
    engine = Engine(
        TINY,
        params,
        slots=4,
        context=TINY.context,
        end_of_turn=chat_format.tokenizer.end_of_turn_ids,
        grammar=Grammar(chat_format.tokenizer),
    )
    with Server(engine, chat_format, "tiny") as server:
        yield server


@pytest.fixture(scope="session")
def greedy(server):
    """The most probable reply to a message, as the server gives it whole."""
    openai = pytest.importorskip("openai")
    with openai.OpenAI(base_url=server.base_url, api_key="any") as sdk:
        yield (
            lambda text, **more: (
                sdk.chat.completions.create(
                    model="tiny", messages=[{"role": "user", "content": text}], temperature=0, max_tokens=12, **more
                )
                .choices[0]
                .message.content
            )
        )
