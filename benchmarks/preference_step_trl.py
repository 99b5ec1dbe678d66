"""The TRL side of preference_step.py. Its arguments are ANSWERS FOLDER RECOMPUTE BATCH: a file descriptor, a folder, 0
or 1, a number.

Needs torch, trl and transformers only. `DPOTrainer` runs as it does for a user: ten records, one optimiser step over
all of them in micro-batches of BATCH pairs, the reference model computed in the step (TRL's default), its default
AdamW. Nothing is truncated, while TRL 1.16 by default cuts at max_length=1024 and keeps the start. The records are
text, not chat messages, with which TRL would also train on the line break that the template puts after a reply's
end-of-turn token. The ids must be the same as on the other side.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO, TypedDict

import torch
import transformers
from datasets import Dataset, disable_progress_bars
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import DPOConfig, DPOTrainer

STEPS = 1_000_000  # the input ends earlier


class Pair(TypedDict):
    """Prompt, chosen and rejected of a preference by name, as the other side wrote them."""

    text: dict[str, str]
    ids: dict[str, list[int]]


class OnDemand(TrainerCallback):
    """Waits for a line of input before each step, and answers with its numbers after it."""

    def __init__(self, answers: TextIO, model: torch.nn.Module) -> None:
        self.answers = answers
        self.log_probs: list[tuple[float, float]] = []
        model.register_forward_hook(self._keep)

    def _keep(self, model: torch.nn.Module, inputs: Any, output: Any) -> None:
        chosen, rejected = output.log_probs.detach().sum(dim=1).chunk(2)
        self.log_probs += zip(chosen.tolist(), rejected.tolist(), strict=True)

    def on_step_begin(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        if not sys.stdin.readline():
            sys.exit(0)
        self.log_probs.clear()
        self.faults = resource.getrusage(resource.RUSAGE_SELF).ru_majflt
        self.began, self.began_cpu = time.perf_counter(), time.process_time()

    def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        self.seconds, self.cpu_seconds = time.perf_counter() - self.began, time.process_time() - self.began_cpu

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, float], **others: Any) -> None:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        answer = {
            "seconds": self.seconds,
            "cpu_seconds": self.cpu_seconds,
            "loss": logs["loss"],
            "grad_norm": logs["grad_norm"],
            "log_probs": [value for pair in self.log_probs for value in pair],
            "peak_bytes": usage.ru_maxrss * 1024,
            "swapped_pages": usage.ru_majflt - self.faults,
        }
        print(json.dumps(answer), file=self.answers)


def check_ids(dataset: Dataset, pairs: Sequence[Pair]) -> int:
    """The number of tokens that TRL computes. Ends the process if its ids are not those of the other side."""
    for number, (row, pair) in enumerate(zip(dataset, pairs, strict=True), start=1):
        for name, expected in pair["ids"].items():
            if row[f"{name}_ids"] != expected:
                sys.exit(f"TRL tokenises the {name} of pair {number} differently: {row[f'{name}_ids']}, {expected}")
    return sum(2 * len(row["prompt_ids"]) + len(row["chosen_ids"]) + len(row["rejected_ids"]) for row in dataset)


def main() -> None:
    descriptor, folder, recompute, batch = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] == "1", int(sys.argv[4])
    torch.set_num_threads(os.cpu_count() or 1)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    disable_progress_bars()
    given = json.loads((folder / "pairs.json").read_text())
    policy, reference = (
        AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
        for path in (folder / "policy", given["reference"])
    )
    config = DPOConfig(
        str(folder / "trl"),
        use_cpu=True,
        bf16=False,
        max_length=None,
        per_device_train_batch_size=batch,
        gradient_accumulation_steps=len(given["pairs"]) // batch,
        gradient_checkpointing=recompute,
        max_steps=STEPS,
        learning_rate=1e-6,
        lr_scheduler_type="constant",
        train_sampling_strategy="sequential",
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    with os.fdopen(descriptor, "w", buffering=1) as answers:
        trainer = DPOTrainer(
            model=policy,
            ref_model=reference,
            args=config,
            train_dataset=Dataset.from_list([pair["text"] for pair in given["pairs"]]),
            processing_class=AutoTokenizer.from_pretrained(given["reference"]),
            callbacks=[OnDemand(answers, policy)],
        )
        print(json.dumps({"tokens": check_ids(trainer.train_dataset, given["pairs"])}), file=answers)
        trainer.train()


if __name__ == "__main__":
    main()
