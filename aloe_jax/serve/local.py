"""Engines of our own: behind a client for the stages of a run, and bare for `aloe serve` and `aloe chat`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

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
from aloe_jax.serve.in_process import InProcessClient
from aloe_jax.serve.settings import ServeSettings
from aloe_jax.tree.template import ChatFormat


@contextmanager
def local_client(
    model: ModelConfig,
    params: Params,
    chat: ChatFormat,
    name: str,
    settings: ServeSettings,
    mesh: Mesh | None = None,
    identity: str = "",
) -> Iterator[InProcessClient]:
    """A client of an engine for these parameters, named `name`, that lives as long as the block. `identity` is the hash
    of all that decides its answers, for the ids of calls.

    Raises AloeError if the engine fails while decoding.
    """
    engine = _engine(model, params, chat, settings.slots, settings.context, mesh)
    # The engine queues what does not fit into its slots; twice as many calls keep it busy.
    client = InProcessClient(engine, chat, name, concurrency=2 * settings.slots, identity=identity)
    try:
        with client:
            yield client
    except Exception:
        if client.failure is not None:
            raise AloeError(f"the decoding engine failed: {client.failure}") from client.failure
        raise
    finally:
        engine.close()


def load_engine(source: str, *, slots: int, context: int) -> tuple[Engine, ChatFormat]:
    """An engine over all devices, and the chat format, for a model named as `resolve_model` takes it. The context is at
    most the model's own. Raises InputError for a model that cannot be loaded."""
    folder = resolve_model(source)
    model, chat = read_chat_model(folder)
    mesh = make_mesh()
    params = load_params(folder, model, decoder.shardings(model, mesh))
    return _engine(model, params, chat, slots, context, mesh), chat


def _engine(
    model: ModelConfig, params: Params, chat: ChatFormat, slots: int, context: int, mesh: Mesh | None
) -> Engine:
    return Engine(
        model,
        params,
        slots=slots,
        context=min(context, model.context),
        end_of_turn=chat.tokenizer.end_of_turn_ids,
        vocab=chat.tokenizer.vocab_size,
        grammar=Grammar(chat.tokenizer),
        mesh=mesh,
    )
