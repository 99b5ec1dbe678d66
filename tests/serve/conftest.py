"""A small chat format and a scripted engine for the server tests.

The scripted engine replaces the real one: these tests are about HTTP, threads and cancellation, and must be able to
hold a request in flight, which a real engine cannot. `test_serve_engine.py` serves with the real one.
"""

import json
import queue
import random
import threading

import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from aloe_jax.decode.requests import Completion, Delta
from aloe_jax.decode.state import EngineState
from aloe_jax.errors import InputError
from aloe_jax.tree.template import ChatFormat

TEMPLATE = (
    "{% for message in messages %}<|start|>{{ message.role }}\n{{ message.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)


@pytest.fixture(scope="session")
def chat_format(tmp_path_factory):
    """One token per byte, and two special tokens around each message."""
    folder = tmp_path_factory.mktemp("chat_format")
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = tokenizers.Tokenizer(
        models.BPE(vocab={symbol: index for index, symbol in enumerate(alphabet)}, merges=[])
    )
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(["<|start|>", "<|end|>"])
    backend.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|end|>", "chat_template": TEMPLATE}))
    return ChatFormat.load(folder)


class ScriptedEngine:
    """Completions are a function of (seed, prompt, sampling). A held engine finishes nothing until it is released."""

    context = 400

    def __init__(self, end_of_turn):
        self.end_of_turn = end_of_turn
        self.submitted = queue.Queue()
        self.cancelled = queue.Queue()
        self.threads = set()
        self.broken = False
        self.longest_prompt = self.context
        self.rows = 8  # requests that run together
        self.reply = None  # a Completion given to every request instead of a drawn one
        self._released = threading.Event()
        self._released.set()
        self._waiting = {}
        self._tickets = 0
        self._deltas = []

    def hold(self):
        self._released.clear()

    def release(self):
        self._released.set()

    @property
    def busy(self):
        return bool(self._waiting)

    @property
    def state(self):
        running = min(len(self._waiting), self.rows)
        return EngineState(running, self.rows - running, running, 2 * self.rows, prefilled=0, found=0)

    def submit(self, request):
        self.threads.add(threading.get_ident())
        if len(request.prompt) > self.longest_prompt:
            raise InputError("the engine refuses this prompt")
        self._tickets += 1
        self._waiting[self._tickets] = request
        self.submitted.put(request)
        return self._tickets

    def cancel(self, ticket):
        self.threads.add(threading.get_ident())
        del self._waiting[ticket]
        self.cancelled.put(ticket)

    def stop(self, ticket, index):
        """As in an engine whose burst had just ended: the completion was drawn, and is given as it is."""

    def streamed(self):
        deltas, self._deltas = self._deltas, []
        return deltas

    def step(self):
        self.threads.add(threading.get_ident())
        if self.broken:
            raise RuntimeError("the device is lost")
        # A burst of decode steps that finishes nothing, while the engine is held.
        if not self._released.wait(timeout=0.01):
            return []
        finished = [(ticket, self._completions(request)) for ticket, request in self._waiting.items()]
        for ticket, completions in finished:
            for index, each in enumerate(completions if self._waiting[ticket].stream else ()):
                self._deltas += [(ticket, delta) for delta in self._halves(index, each)]
        self._waiting.clear()
        return finished

    def _halves(self, index, completion):
        """A completion as two deltas."""
        half = len(completion.token_ids) // 2
        for part, reason in ((slice(half), None), (slice(half, None), completion.finish_reason)):
            parts = (completion.token_ids[part], completion.log_probs[part], completion.top[part])
            yield Delta(index, *parts, finish_reason=reason)

    def _completions(self, request):
        return [self._completion(request, index) for index in range(request.n)]

    def _completion(self, request, index):
        if self.reply is not None:
            return self.reply
        sampling = request.sampling
        key = (0, 0) if sampling.temperature == 0 else (request.seed, index)
        draw = random.Random(f"{key} {request.prompt} {sampling.temperature}")
        ids = [draw.randrange(94) for _ in range(12)] + [self.end_of_turn]
        reason = "stop" if len(ids) <= sampling.max_tokens else "length"
        ids = ids[: sampling.max_tokens]
        return Completion(tuple(ids), tuple(-draw.random() for _ in ids), reason)


@pytest.fixture
def engine(chat_format):
    (end_of_turn,) = chat_format.tokenizer.end_of_turn_ids
    return ScriptedEngine(end_of_turn)


@pytest.fixture(autouse=True)
def _no_key(monkeypatch):
    """A key in the developer's own environment must not reach these tests."""
    monkeypatch.delenv("ALOE_API_KEY", raising=False)
