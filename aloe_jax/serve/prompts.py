"""Token ids of the prompts of a request, and where their tokens stand in the text."""

from __future__ import annotations

from collections.abc import Sequence

from aloe_jax.errors import InputError
from aloe_jax.serve.detokenizer import Detokenizer
from aloe_jax.serve.protocol.chat import ChatRequest, Prompting
from aloe_jax.serve.protocol.completions import CompletionRequest
from aloe_jax.serve.protocol.errors import ApiError
from aloe_jax.serve.served_model import ServedModel
from aloe_jax.tree.tokenizer import Tokenizer


def messages_ids(model: ServedModel, asked: Prompting) -> list[int]:
    """The ids of the messages as the model's template writes them. ApiError (400) if it refuses them."""
    chat = model.with_variables(asked.chat_template_kwargs)
    try:
        if asked.continue_final_message:
            return chat.continued_ids(asked.messages)
        return chat.prompt_ids(asked.messages, asked.add_generation_prompt)
    except InputError as error:
        raise ApiError(400, str(error), param="messages") from None


def text_ids(model: ServedModel, text: str, add_special_tokens: bool, param: str = "prompt") -> list[int]:
    """The ids of a text as it is, behind the tokenizer's own beginning if it has one. ApiError (400) if the tokenizer
    fails on it."""
    try:
        return model.chat_format.tokenizer.encode_document(text, add_special_tokens)
    except InputError as error:
        raise ApiError(400, str(error), param=param) from None


def chat_prompt(model: ServedModel, request: ChatRequest) -> list[int]:
    """The prompt of a chat completion. ApiError (400) if the template refuses it or the reply has no room."""
    prompt = messages_ids(model, request)
    wanted = 1 if request.limit is None else request.limit
    _check_room(model, prompt, wanted, "the messages take", "messages")
    return prompt


def text_prompts(model: ServedModel, request: CompletionRequest) -> list[list[int]]:
    """The prompts of a text completion. ApiError (400) for one that is empty or leaves no room."""
    prompts = [
        text_ids(model, prompt, request.add_special_tokens) if isinstance(prompt, str) else list(prompt)
        for prompt in request.prompts
    ]
    for prompt in prompts:
        if not prompt:
            raise ApiError(400, "field 'prompt': the text has no tokens; expected at least one", param="prompt")
        _check_room(model, prompt, request.limit, "the prompt takes", "prompt")
    return prompts


def _check_room(model: ServedModel, prompt: Sequence[int], wanted: int, what: str, param: str) -> None:
    context = model.worker.context
    if len(prompt) + wanted > context:
        raise ApiError(
            400,
            f"{what} {len(prompt)} tokens and the reply may take {wanted}, together more than the model's context of "
            f"{context}; shorten the {param} or lower max_tokens",
            code="context_length_exceeded",
            param=param,
        )


def echoed(tokenizer: Tokenizer, prompt: str | Sequence[int], ids: Sequence[int]) -> tuple[str, list[int]]:
    """The text of a prompt, and the character at which each of its tokens begins. What the tokenizer put before a text
    begins at 0."""
    text = prompt if isinstance(prompt, str) else tokenizer.decode(ids, skip_special=False)
    detokenizer, special = Detokenizer(tokenizer), tokenizer.special_tokens
    offsets, length = [], 0
    for token in ids:
        offsets.append(length)
        length += len(special[token] if token in special else detokenizer.take(token))
    added = max(length + len(detokenizer.finish()) - len(text), 0)
    return text, [min(max(offset - added, 0), len(text)) for offset in offsets]
