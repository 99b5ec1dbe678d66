"""The arguments of `aloe serve` and `aloe chat`."""

from __future__ import annotations

import argparse

from aloe_jax.cli import serving
from aloe_jax.cli.parsing import Add, path_of


def add_serving(add: Add) -> None:
    """Add both commands."""
    command = add("serve", serving.serve, "Serve models over the OpenAI protocol.")
    command.add_argument(
        "--model",
        required=True,
        action="append",
        metavar="[NAME=]DIR",
        help="Hugging Face folder, hub id, GGUF file or embedded model; NAME=DIR names it, and more of them serve more "
        "models, each with its own memory",
    )
    _context_argument(command)
    command.add_argument("--name", help="name of the model in requests (default: what --model says)")
    command.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1, this machine only)"
    )
    command.add_argument("--port", type=int, default=8000, help="port; 0 takes a free one (default: 8000)")
    command.add_argument("--slots", type=int, default=8, help="sequences per model that decode together (default: 8)")
    command.add_argument(
        "--save-trees",
        type=path_of,
        metavar="FILE",
        help="trees.jsonl to which the page at / may add its conversations (default: it offers a download)",
    )
    _catalogue_argument(command)
    command.add_argument(
        "--warm-up", action="store_true", help="compile every program before the port opens, so that no request waits"
    )
    command.add_argument(
        "--queue",
        type=int,
        default=256,
        metavar="N",
        help="requests that may wait; further ones get 429 (default: 256)",
    )
    command.add_argument(
        "--drain",
        type=float,
        default=30.0,
        metavar="SECONDS",
        help="time that running requests get after a first signal; a second one ends at once (default: 30)",
    )
    command.add_argument(
        "--allow-origin",
        action="append",
        default=[],
        metavar="ORIGIN",
        help="web pages elsewhere that may call the server, as in https://app.example (may be repeated; default: none)",
    )
    command.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="a further name that clients call the server by (may be repeated)",
    )

    command = add("chat", serving.chat, "Chat with a model in the terminal; /help lists its commands, /quit ends.")
    command.add_argument(
        "--model",
        help="Hugging Face folder, hub id, GGUF file or embedded model; with --url its name there (default: the first)",
    )
    command.add_argument(
        "--url", help="talk with a served model instead, at an address such as http://127.0.0.1:8000/v1"
    )
    _context_argument(command)
    command.add_argument("--system", help="system message")
    command.add_argument(
        "--memory",
        type=path_of,
        metavar="FILE",
        help="JSON file of what was learned about you, which the model is told at the start; it is added to at the end",
    )
    _catalogue_argument(command)
    command.add_argument(
        "--temperature", type=float, default=0.7, help="sampling temperature; 0 is greedy (default: 0.7)"
    )
    command.add_argument("--top-p", type=float, default=1.0, help="keep the most probable tokens (default: 1, all)")
    command.add_argument("--max-tokens", type=int, default=256, help="maximum tokens of a reply (default: 256)")
    command.add_argument("--seed", type=int, default=0, help="seed of the sampling (default: 0)")


def _context_argument(command: argparse.ArgumentParser) -> None:
    command.add_argument("--context", type=int, default=2048, help="maximum tokens of prompt and reply (default: 2048)")


def _catalogue_argument(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--catalogue",
        metavar="FILE",
        help="lines of an id and its text: all that the model may name as learned about the user; 'world' is that of "
        "the scripted personas (default: free sentences)",
    )
