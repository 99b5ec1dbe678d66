"""A model for lm-eval that decodes with our engine. Imported only where lm-eval is needed; it is no dependency.

Prompts are what lm-eval makes of a document: text in our chat template, with the choice behind it. Where context and
choice are cut into tokens is lm-eval's own code, so log-probabilities are those of its `hf` model, with one difference:
a text that is scored as a whole has one begin-of-sequence token, also with tokenizers that would add a second one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import normalize_gen_kwargs
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from aloe_jax.decode.engine import Engine
from aloe_jax.decode.requests import Completion, Request, Sampling
from aloe_jax.errors import InputError
from aloe_jax.serve.reply_text import ReplyText, Stops
from aloe_jax.tree.schema import Message
from aloe_jax.tree.template import ChatFormat

MOST_TOKENS = 256  # of a reply to a task that sets no limit, as in lm-eval
SAMPLING = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
TAKEN = ("until", "max_gen_toks", "do_sample", *SAMPLING)

Tokens = tuple[tuple[str, str], list[int], list[int]]  # (context, continuation) as text, and the ids of each


class EngineModel(TemplateLM):
    """Scores and generates for lm-eval with `engine`. `tell` is called with the requests done, and all of them. `cut`
    counts the prompts that were longer than the engine's context and lost their beginning."""

    def __init__(self, engine: Engine, chat: ChatFormat, seed: int, tell: Callable[[int, int], None]) -> None:
        super().__init__()
        self.cut = 0
        self._engine, self._chat, self._seed, self._tell = engine, chat, seed, tell

    @property
    def eot_token_id(self) -> int:
        """The end of a turn with the smallest id."""
        return min(self._chat.tokenizer.end_of_turn_ids)

    @property
    def prefix_token_id(self) -> int:
        """What a text without context is scored behind: the begin-of-sequence token, else the end-of-sequence token."""
        tokenizer = self._chat.tokenizer
        text = tokenizer.bos_token or tokenizer.eos_token
        return tokenizer.encode(text)[0] if text else self.eot_token_id

    @property
    def max_length(self) -> int:
        """The tokens that a token may follow."""
        return self._engine.context - 1

    @property
    def tokenizer_name(self) -> str:
        """What prompts depend on."""
        return f"{self._chat.tokenizer.hash} {self._chat.template.hash}"

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **kwargs: object) -> list[int]:
        """The ids of a text as it is; the template has written what stands before it."""
        return self._chat.tokenizer.encode(string)

    def apply_chat_template(self, chat_history: Sequence[Mapping[str, Any]], add_generation_prompt: bool = True) -> str:
        """The prompt of the next reply, or of the rest of the last one, which is begun."""
        messages = [Message(role=each["role"], content=each["content"]) for each in chat_history]
        if add_generation_prompt:
            return self._chat.render(messages, add_generation_prompt=True)
        *history, begun = messages
        return self._chat.render(history, add_generation_prompt=True) + self._chat.tokenizer.marked(begun.content)

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = True) -> list[tuple[float, bool]]:
        """For each (context, continuation) the log-probability of the continuation, and whether it is the greedy
        one."""
        return super().loglikelihood(requests, disable_tqdm=True)

    def _loglikelihood_tokens(
        self, requests: Sequence[Tokens], disable_tqdm: bool = True, **kwargs: object
    ) -> list[tuple[float, bool]]:
        asked = []
        for _, context, continuation in requests:
            if len(continuation) > self.max_length:
                raise InputError(
                    f"config.serve.context: a continuation has {len(continuation)} tokens, expected fewer than the "
                    f"context of {self._engine.context}; raise it"
                )
            ids = self._fitting([*context, *continuation], self._engine.context)
            asked.append(Request(tuple(ids), Sampling(max_tokens=0, top_logprobs=1), score=True))
        found = []
        for completion, (_, _, continuation) in zip(self._complete(asked), requests, strict=True):
            assert completion.prompt is not None
            first = len(completion.prompt.top) - len(continuation)
            values, tops = completion.prompt.log_probs[first:], completion.prompt.top[first:]
            greedy = all(top[0][0] == token for top, token in zip(tops, continuation, strict=True))
            found.append((float(sum(value for value in values if value is not None)), greedy))
        return found

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = True) -> list[float]:
        """The log-probability of each text, behind the prefix token; one beyond the context in several windows."""
        windows: list[Tokens] = []
        texts: list[int] = []  # of each window
        for number, request in enumerate(requests):
            ids, prefix = self.tok_encode(request.args[0]), self.prefix_token_id
            rolling = get_rolling_token_windows(ids, prefix, max_seq_len=self.max_length, context_len=1)
            own = [(("", ""), *make_disjoint_window(window)) for window in rolling]
            windows += own
            texts += [number] * len(own)
        sums = [0.0] * len(requests)
        for number, (log_prob, _) in zip(texts, self._loglikelihood_tokens(windows), strict=True):
            sums[number] += log_prob
        return sums

    def generate_until(self, requests: list[Any], disable_tqdm: bool = True) -> list[str]:
        """The reply to each (context, options), up to the first of its stop texts. Equal requests get seeds of their
        own. InputError for an option that our engine does not have."""
        engine, tokenizer = self._engine, self._chat.tokenizer
        replies: dict[int, ReplyText] = {}
        repeats: Counter[str] = Counter()
        for context, given in (request.args for request in requests):
            options: dict[str, Any] = dict(normalize_gen_kwargs(given, MOST_TOKENS))
            if unknown := [name for name in options if name not in TAKEN]:
                raise InputError(
                    f"config.benchmark.tasks: a task asks for {unknown[0]}={options[unknown[0]]!r} in its "
                    f"generation_kwargs, which our engine does not have; it has {', '.join(TAKEN)}"
                )
            most = options["max_gen_toks"]
            if most >= engine.context:
                raise InputError(
                    f"config.serve.context: {engine.context}, expected more than the {most} tokens that a task wants "
                    "for a reply; raise it"
                )
            drawn: dict[str, Any] = {name: options[name] for name in SAMPLING if name in options}
            sampling = Sampling(max_tokens=most, **(drawn if options["do_sample"] else {"temperature": 0.0}))
            ids = self._fitting(self.tok_encode(context), engine.context - most)
            ticket = engine.submit(Request(tuple(ids), sampling, self._seed + repeats[context], stream=True))
            repeats[context] += 1
            replies[ticket] = ReplyText(tokenizer, Stops(tuple(filter(None, options["until"]))))
        texts, done = dict.fromkeys(replies, ""), 0
        while engine.busy:
            done += len(engine.step())
            for ticket, delta in engine.streamed():
                reply = replies[ticket]
                if reply.ended:
                    continue
                texts[ticket] += reply.take(delta).text
                if reply.ended and delta.finish_reason is None:
                    engine.stop(ticket, 0)
            self._tell(done, len(replies))
        return list(texts.values())

    def _complete(self, requests: Sequence[Request]) -> list[Completion]:
        tickets = [self._engine.submit(request) for request in requests]
        found: dict[int, Completion] = {}
        while self._engine.busy:
            found.update((ticket, completion) for ticket, [completion] in self._engine.step())
            self._tell(len(found), len(tickets))
        return [found[ticket] for ticket in tickets]

    def _fitting(self, ids: list[int], most: int) -> list[int]:
        """The last `most` of the ids."""
        self.cut += len(ids) > most
        return ids[-most:]
