"""POST /tokenize and /detokenize, GET /tokenizer_info."""

from __future__ import annotations

import asyncio

from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import Route

from aloe_jax.serve.prompts import messages_ids, text_ids
from aloe_jax.serve.protocol.parsing import json_object, parse_request
from aloe_jax.serve.protocol.tokens import (
    DetokenizeRequest,
    DetokenizeResponse,
    TokenizeMessages,
    TokenizeResponse,
    TokenizerInfo,
    TokenizeText,
)
from aloe_jax.serve.server import delivery
from aloe_jax.serve.server.access import Access
from aloe_jax.serve.server.described import Operation

OPERATIONS = (
    Operation(
        "post",
        "/tokenize",
        "Token ids of a text or of messages",
        answer=TokenizeResponse,
        asked=(TokenizeText, TokenizeMessages),
    ),
    Operation("post", "/detokenize", "The text of token ids", answer=DetokenizeResponse, asked=(DetokenizeRequest,)),
    Operation("get", "/tokenizer_info", "Special tokens and chat template", answer=TokenizerInfo, refusals=(404,)),
)


def routes(access: Access) -> list[Route]:
    """The routes from text to token ids and back."""

    async def tokenize(http: HttpRequest) -> Response:
        body = await access.body(http)
        asked: TokenizeMessages | TokenizeText
        if "messages" in json_object(body):
            asked = parse_request(body, TokenizeMessages)
            model = access.model(asked.model)
            ids = await asyncio.to_thread(messages_ids, model, asked)
        else:
            asked = parse_request(body, TokenizeText)
            model = access.model(asked.model)
            ids = await asyncio.to_thread(text_ids, model, asked.prompt, asked.add_special_tokens)
        texts = None
        if asked.return_token_strs:
            texts = await asyncio.to_thread(lambda: [model.token_text(token) for token in ids])
        answer = TokenizeResponse(count=len(ids), max_model_len=model.worker.context, tokens=ids, token_strs=texts)
        return delivery.whole(answer)

    async def detokenize(http: HttpRequest) -> Response:
        asked = parse_request(await access.body(http), DetokenizeRequest)
        model = access.model(asked.model)
        text = await asyncio.to_thread(model.chat_format.tokenizer.decode, asked.tokens, False)
        return delivery.whole(DetokenizeResponse(prompt=text))

    async def tokenizer_info(http: HttpRequest) -> Response:
        tokenizer = access.model(http.query_params.get("model")).chat_format.tokenizer
        answer = TokenizerInfo(
            bos_token=tokenizer.bos_token,
            eos_token=tokenizer.eos_token,
            pad_token=tokenizer.special.get("pad_token"),
            chat_template=tokenizer.chat_template,
            tokenizer_hash=tokenizer.hash,
        )
        return delivery.whole(answer)

    return [
        Route("/tokenize", tokenize, methods=["POST"]),
        Route("/detokenize", detokenize, methods=["POST"]),
        Route("/tokenizer_info", tokenizer_info),
    ]
