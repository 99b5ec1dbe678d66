"""`config.benchmark`: what is measured, over how many turns."""

from __future__ import annotations

from dataclasses import dataclass

from aloe_jax.errors import InputError
from aloe_jax.serve.settings import check_servers
from aloe_jax.settings import setting
from aloe_jax.train.names import OWN, USUAL
from eval.benchmark.entries import OTHER_SIMULATOR, Entry, entries, task_names

MOST_RESAMPLES = 1_000_000
INTERACTIVE, REPLAY = MODES = ("interactive", "replay")


@dataclass(frozen=True)
class BenchmarkSettings:
    """The ALOE benchmark. Models, controls and cases can be added to a finished one; docs/benchmark.md."""

    models: tuple[str, ...] = setting(
        USUAL,
        f"what is measured: {', '.join(OWN)} of this run, a folder's path, NAME=FOLDER (a model, or a training of "
        "another run) or NAME=URL#MODEL (on an OpenAI-compatible server)",
        decides=False,
    )
    controls: tuple[str, ...] = setting(
        (),
        "results beside the models': wrong_persona, no_history, length_judge, no_context_judge, "
        "scripted_judge, other_simulator (of the last model), "
        "style_prompt, self_reflection (of base), oracle; MODEL+CONTROL for another model",
        decides=False,
    )
    cases: int = setting(0, "held-out cases, from the first on; 0: all", minimum=0, decides=False)
    control_cases: int = setting(25, "cases of a control, from the first on", minimum=1, decides=False)
    retry: bool = setting(
        False, "play the cases of a finished benchmark again on which a server failed or refused", decides=False
    )
    mode: str = setting(
        INTERACTIVE,
        "interactive: the user answers the model's replies; replay: all models answer the same stored dialogues",
        choices=MODES,
    )
    replay: str = setting(
        "base", "whose dialogues are replayed: a model among `models`, which plays with the user, or a trees.jsonl"
    )
    turns: int = setting(10, "user turns of a dialogue", minimum=1)
    probes: bool = setting(
        False, "ask each model after every reply, beside the dialogue, what it has learned about the user"
    )
    temperature: float = setting(0.7, "of the model under test")
    top_p: float = setting(0.9, "of the model under test")
    max_tokens: int = setting(128, "longest reply", minimum=1)
    concurrency: int = setting(64, "dialogues at the same time", minimum=1, decides=False)
    general: bool = setting(
        False,
        "also measure the perplexity of plain dialogues under each model of this machine",
        decides=False,
    )
    hacking: bool = setting(
        False,
        "also probe whether each model's follow-up questions change with the user's answer",
        decides=False,
    )
    tasks: tuple[str, ...] = setting(
        (),
        "tasks of lm-eval that each model of this machine does as well: names that lm-eval knows, or YAML files",
        decides=False,
    )
    task_limit: int = setting(200, "documents of a task, from the first on; 0: all", minimum=0, decides=False)
    resamples: int = setting(2000, "of the two-way bootstrap", minimum=1, maximum=MOST_RESAMPLES)
    api_key_env: str = setting(
        "ALOE_API_KEY", "environment variable that holds the key of the models' servers", decides=False
    )

    def __post_init__(self) -> None:
        check_servers("", self.api_key_env)
        task_names(self.tasks)
        names = [each.name for each in self.entries if not each.control]
        if self.mode == REPLAY and self.replay not in names and not self.replay.endswith(".jsonl"):
            raise InputError(f"replay: '{self.replay}' is neither among config.benchmark.models nor a trees.jsonl")
        if self.mode == REPLAY and any(each.control == OTHER_SIMULATOR for each in self.entries):
            raise InputError(f"controls: in replay there is no user, so {OTHER_SIMULATOR} has no effect; leave it out")
        if self.mode == REPLAY and self.hacking:
            raise InputError("hacking: in replay no model's question is answered; set mode to 'interactive'")

    @property
    def entries(self) -> list[Entry]:
        """All results, in the order in which they are made."""
        return entries(self.models, self.controls, self.replay if self.mode == REPLAY else "")

    @property
    def replayed_file(self) -> str:
        """The file whose dialogues are replayed; empty if they are a model's, or none are."""
        return self.replay if self.mode == REPLAY and self.replay.endswith(".jsonl") else ""
