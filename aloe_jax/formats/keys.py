"""The keys of users' records: those that are read, those that would change the dialogue if they were skipped, and a
tally of all others."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

# One record is a chat, a pair of replies, or a prompt with its reply; each line lists names of the same thing.
CHATS = ("messages", "conversations")
PROMPTS = ("prompt", "question", "instruction", "query")
INPUTS = ("input", "context")  # joined to an instruction or a question with a line break between
SYSTEMS = ("system", "system_prompt")
REPLIES = ("completion", "response", "output", "answer")
SIDES = ("chosen", "rejected")
MARGIN = "margin"
SCORES = ("score_chosen", "score_rejected")  # of a reward model or judge: the margin where none is stated

PAPER = ("profile", "personality", "conversations")  # a conversation of the paper's code, and a turn of it
PAPER_TURN = ("user", "assistant", "chosen", "inferred_profile", "inferred_personality")

ROLES = ("role", "from")
CONTENTS = ("content", "value")
WEIGHTS = ("weight", "train", "training", "loss")  # whether a reply is trained on

LABELS = ("label", "kto_tag")  # whether the last reply is a good one
REJECTED = ("rejected_response", "rejected_messages")  # the reply that is rejected for that of a prompt or a chat
_VERDICT = re.compile(r"reject|thumbs|desirable|(^|_)kto($|_)", re.IGNORECASE)
_GRADE = re.compile(r"(^|_)(good|bad)($|_)", re.IGNORECASE)  # a verdict if its value is one: `bad_words` has a list

# What would change the dialogue or the training: records with a value there are refused where it is not read.
DECISIVE = frozenset(
    {*CHATS, *PROMPTS, *INPUTS, *SYSTEMS, *WEIGHTS, "history", "tools", "tool_calls", "functions", "function_call"}
    | {"reasoning_content", "reasoning", "thinking", "image", "images", "audio", "audios", "video", "videos"}
    | {"documents", "loss_mask", "loss_weight"}
)
DECISIVE_IN_MESSAGES = DECISIVE - {*CHATS, *PROMPTS, *INPUTS, *SYSTEMS} | {"tool_call_id", "refusal", "train_detail"}


def given(value: object) -> bool:
    """Whether a key has a value: none of null, "", [], {} and false."""
    return value is not None and value is not False and value not in ("", [], {})


def refuses(value: object) -> bool:
    """Whether a mark says no: false, 0, or their texts."""
    return value in (False, "0", "0.0", "false", "False")


@dataclass
class Unread:
    """A key that is not read: the number of records with a value there, the first of them, whether it holds text."""

    records: int
    first: int
    text: bool


@dataclass
class Tally:
    """Counts the keys that are not read, by name; those of messages as "messages[].KEY"."""

    unread: dict[str, Unread] = field(default_factory=dict)

    def check(self, record: Mapping[str, object], read: Collection[str], line: int, inside: str = "") -> None:
        """Count the keys of a record that are not in `read`, with `inside` before their names. Raises ValueError for
        one that decides the dialogue."""
        for key, value in record.items():
            if key in WEIGHTS and refuses(value):
                raise ValueError(f"key '{key}' is {value!r}: the record is not to be trained on; remove the record")
            if key in read or not given(value):
                continue
            if key in DECISIVE and not (key in WEIGHTS and value in (1, "1", "1.0", "true", "True")):
                raise ValueError(_refusal(f"key '{inside}{key}'"))
            self.count(f"{inside}{key}", value, line)

    def check_verdicts(self, record: Mapping[str, object], read: Collection[str]) -> None:
        """Raise ValueError for a key of a record without pairs that is not read and says by its name that a reply is a
        bad one: it would be trained on as a good one."""
        for key, value in record.items():
            named = _VERDICT.search(key) or (isinstance(value, (bool, int, float)) and _GRADE.search(key))
            if key not in read and value not in (None, "") and named:
                raise ValueError(
                    f"key '{key}' is not read, but says which replies are bad; name it 'label' if it is true or false "
                    "of the last reply, name two replies 'chosen' and 'rejected', or remove it"
                )

    def check_message(self, entry: Mapping[str, object], name: str, line: int) -> None:
        """Count the keys of a message that are not read; `name` says which one it is. Raises ValueError as `check`."""
        for key, value in entry.items():
            if key in ROLES + CONTENTS + WEIGHTS or not given(value):
                continue
            if key in DECISIVE_IN_MESSAGES:
                raise ValueError(_refusal(f"{name} has the key '{key}', which"))
            self.count(f"messages[].{key}", value, line)

    def count(self, key: str, value: object, line: int) -> None:
        """Count a value that is not read."""
        found = self.unread.setdefault(key, Unread(0, line, False))
        found.records += 1
        found.text |= isinstance(value, str | list | dict)


def _refusal(what: str) -> str:
    return f"{what} is not read here, but changes the dialogue; expected it absent or empty"
