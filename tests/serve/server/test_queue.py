"""A full queue sends clients away until there is room."""

import json
import threading

import openai
import pytest

from aloe_jax.serve.server.server import Server
from aloe_jax.serve.server.settings import ServerSettings

WAIT = 30  # seconds until a test gives up on another thread
HELLO = [{"role": "user", "content": "hello"}]


@pytest.mark.parametrize("stream", [False, True])
def test_beyond_the_queue_requests_are_refused_with_a_time(engine, chat_format, stream):
    """One request runs, one waits, the third is refused; when both are gone the next one is answered."""
    engine.hold()
    engine.rows = 1
    with (
        Server(engine, chat_format, "tiny", settings=ServerSettings(queue=1)) as server,
        openai.OpenAI(base_url=server.base_url, api_key="any", max_retries=0) as sdk,
    ):

        def ask():
            return sdk.chat.completions.create(model="tiny", messages=HELLO, seed=1)

        replies = []
        callers = [threading.Thread(target=lambda: replies.append(ask())) for _ in range(2)]
        for caller in callers:
            caller.start()
            engine.submitted.get(timeout=WAIT)
        with pytest.raises(openai.RateLimitError) as caught:
            sdk.chat.completions.create(model="tiny", messages=HELLO, stream=stream)
        assert 1 <= int(caught.value.response.headers["Retry-After"]) <= 60
        assert caught.value.type == "rate_limit_error"
        assert set(json.loads(caught.value.response.text)["error"]) == {"message", "type", "param", "code"}
        engine.release()
        for caller in callers:
            caller.join(WAIT)
        assert ask().choices == replies[0].choices == replies[1].choices
