"""What each template of tests/fixtures/templates writes beside text, and conversations to render with it."""

from __future__ import annotations

import datetime
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken

from aloe_jax.tree.template import DEFAULT_DATE
from helpers.tree_samples import FIXTURES


@dataclass(frozen=True)
class Marks:
    """The special tokens of a template's model: begin and end of sequence, further ends of a turn, and the others."""

    bos: str | None
    eos: str
    enders: tuple[str, ...] = ()
    others: tuple[str, ...] = ()


_CHATML = Marks(None, "<|im_end|>", (), ("<|im_start|>", "<|endoftext|>"))
_LLAMA_3 = Marks("<|begin_of_text|>", "<|eot_id|>", (), ("<|start_header_id|>", "<|end_header_id|>"))
_INSTRUCTED = Marks("<s>", "</s>", (), ("[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"))
_PLAIN = Marks("<s>", "</s>")
_GEMMA = Marks("<bos>", "<eos>", ("<end_of_turn>",), ("<start_of_turn>",))
_ROLES = ("<|system|>", "<|user|>", "<|assistant|>")
MARKS = {
    "chatml": _CHATML,
    "command_r": Marks("<BOS>", "<|STOP|>", (), ("<|START|>", "<|RULES|>", "<|ASKER|>", "<|BOT|>")),
    "deepseek": Marks("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", (), ("<｜Asker｜>", "<｜Answerer｜>")),
    "falcon3": Marks(None, "<|endoftext|>", (), _ROLES),
    "gemma": _GEMMA,
    "gemma3": _GEMMA,
    "glm4": Marks(None, "<|endoftext|>", ("<|user|>",), ("[MASK]", "<sop>", "<|system|>", "<|assistant|>")),
    "granite": Marks(None, "<|end_of_text|>", (), ("<|start_of_role|>", "<|end_of_role|>")),
    "harmony": Marks(
        "<|startoftext|>", "<|return|>", ("<|end|>",), ("<|start|>", "<|message|>", "<|channel|>", "<|call|>")
    ),
    "llama2": _PLAIN,
    "llama3": _LLAMA_3,
    "llama3_plain": _LLAMA_3,
    "llama3_tools": _LLAMA_3,
    "mistral_moving": _INSTRUCTED,
    "mistral_tekken": _INSTRUCTED,
    "mistral_v0_1": _PLAIN,
    "mistral_v0_3": _INSTRUCTED,
    "nemo_counted": _INSTRUCTED,
    "olmo": Marks(None, "<|endoftext|>"),
    "olmo2": Marks("<|endoftext|>", "<|endoftext|>"),
    "openchat": Marks("<s>", "<|end_of_turn|>"),
    "padded_turns": _PLAIN,
    "parts_macro": _CHATML,
    "phi3": Marks("<s>", "<|endoftext|>", ("<|end|>",), _ROLES),
    "phi4": Marks(None, "<|im_end|>", (), ("<|im_start|>", "<|im_sep|>")),
    "qwen2_5": _CHATML,
    "qwen3": _CHATML,
    "qwq": _CHATML,
    "smollm3": _CHATML,
    "specials_dated": Marks("<s>", "</s>", (), ("<unk>", "<pad>")),
    "thinking_opener": _CHATML,
    "vicuna": _PLAIN,
    "zephyr": _PLAIN,
}
SYSTEM = "Be kind.\nBe short."
CONVERSATIONS: dict[str, list[str]] = {
    "question": ["How are you?"],
    "answered": ["How are you?", "Fine, and you?"],
    "long": ["a 12345", "b c", "d\r\ne", "f {{ x }} 'quoted' <b> & so on", "世界 🌍 e\u0301 ﬁ", "Ça va, naïve?"],
    "white": ["  Why?\t\n", "So.\n", "\n And  now ? ", " Then  that. \n\n", "x\u00a0y\u3000z"],
    "thinking": ["Why?", "<think>\nhm\n</think>\n\nSo.", "And?", "</think> odd", "Go on", "<think>no end"],
    "empty": ["", "", "?", "!"],
    "marks": ["What is </s>, <|im_end|> or <|end|>?", "It is <|im_end|> here, </s> there.", "<|user|><s>", "[INST] no"],
}


def messages(said: list[str], system: str | None) -> list[dict[str, str]]:
    """A dialogue of user and assistant in turn, with a system message in front unless `system` is None."""
    roles = ["user", "assistant"] * len(said)
    turns = [{"role": role, "content": text} for role, text in zip(roles, said, strict=False)]
    return turns if system is None else [{"role": "system", "content": system}, *turns]


def template(name: str) -> str:
    """The source of a template."""
    return (FIXTURES / "templates" / f"{name}.jinja").read_text()


def write_chat_folder(folder: Path, backend: tokenizers.Tokenizer, name: str, **settings: Any) -> Path:
    """A folder with `backend`, to which the tokens of the template `name` are added, and that template."""
    marks = MARKS[name]
    texts = [*([marks.bos] if marks.bos else []), marks.eos, *marks.enders, *marks.others]
    known = {token.content for token in backend.get_added_tokens_decoder().values()}
    backend.add_tokens([AddedToken(text, special=True, normalized=False) for text in texts if text not in known])
    folder.mkdir(parents=True, exist_ok=True)
    backend.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": marks.eos, "chat_template": template(name)}
    config |= {"bos_token": marks.bos} if marks.bos else {}
    (folder / "tokenizer_config.json").write_text(json.dumps(config | settings))
    ends = [backend.token_to_id(text) for text in (marks.eos, *marks.enders)]
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": ends}))
    return folder


class Then(datetime.datetime):
    """A clock for transformers that stands on the day of our templates."""

    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> Then:
        return cls.strptime(DEFAULT_DATE, "%d %b %Y")
