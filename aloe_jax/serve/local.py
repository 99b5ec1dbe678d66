"""Our own server around parameters that are in memory, for the stages that need a model to answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from jax.sharding import Mesh

from aloe_jax.decode.constraint import Grammar
from aloe_jax.decode.engine import Engine
from aloe_jax.errors import AloeError
from aloe_jax.hub.chat_model import read_chat_model
from aloe_jax.hub.load import load_params
from aloe_jax.hub.source import resolve_model
from aloe_jax.models import decoder
from aloe_jax.models.config import ModelConfig
from aloe_jax.models.decoder import Params
from aloe_jax.parallel.mesh import make_mesh
from aloe_jax.serve.client.client import Client
from aloe_jax.serve.server.server import Server
from aloe_jax.tree.template import ChatFormat


@contextmanager
def local_client(
    model: ModelConfig,
    params: Params,
    chat: ChatFormat,
    name: str,
    config: Mapping[str, Any],
    mesh: Mesh | None = None,
) -> Iterator[Client]:
    """A client of a server that lives as long as the block. `config` holds `slots` and `context`.

    Raises AloeError if the engine fails while serving.
    """
    engine = Engine(
        model,
        params,
        slots=config["slots"],
        context=min(config["context"], model.context),
        end_of_turn=chat.tokenizer.end_of_turn_ids,
        vocab=chat.tokenizer.vocab_size,
        grammar=Grammar(chat.tokenizer),
        mesh=mesh,
    )
    server = Server(engine, chat, name)
    try:
        with server:
            # The engine queues what does not fit into its slots; the client only has to keep it fed.
            yield Client(server.base_url, name, concurrency=2 * config["slots"], retries=0)
    except Exception as error:
        if server.failure is not None:
            raise AloeError(f"the decoding engine failed: {server.failure}") from server.failure
        raise error
    finally:
        engine.close()


def load_engine(source: str, *, slots: int, context: int) -> tuple[Engine, ChatFormat]:
    """An engine over all devices, and the chat format, for a model named as `resolve_model` takes it. The context is at
    most the model's own. Raises InputError for a model that cannot be loaded."""
    folder = resolve_model(source)
    model, chat = read_chat_model(folder)
    mesh = make_mesh()
    engine = Engine(
        model,
        load_params(folder, model, decoder.shardings(model, mesh)),
        slots=slots,
        context=min(context, model.context),
        end_of_turn=chat.tokenizer.end_of_turn_ids,
        vocab=chat.tokenizer.vocab_size,
        grammar=Grammar(chat.tokenizer),
        mesh=mesh,
    )
    return engine, chat
