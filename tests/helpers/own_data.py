"""What README's section on one's own data and model takes for given: a base model, and data in three formats."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from helpers import tiny

DISHES = ("leeks", "rice", "beans", "eggs", "squash", "lentils", "fennel", "oats")


def write_own(folder: Path) -> None:
    """Write `my-base`, a tiny model without a chat template, and a `pairs.jsonl`, `scored.csv` and `labels.jsonl` of as
    many records as there are dishes."""
    base = tiny.write_folder(folder / "my-base")
    settings = json.loads((base / "tokenizer_config.json").read_text())
    del settings["chat_template"]
    (base / "tokenizer_config.json").write_text(json.dumps(settings))
    asked = [f"What can I cook with {dish}?" for dish in DISHES]
    pairs = [{"prompt": text, "chosen": f"Soup {n}.", "rejected": f"No idea, {n}."} for n, text in enumerate(asked)]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    with (folder / "scored.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, [*pairs[0], "score_chosen", "score_rejected"])
        table.writeheader()
        table.writerows(
            pair | {"prompt": pair["prompt"] + " Briefly.", "score_chosen": 8, "score_rejected": 5} for pair in pairs
        )
    labels = [
        {"prompt": [{"role": "user", "content": text + " Please."}], "completion": f"Stew {n}.", "label": n % 2 == 0}
        for n, text in enumerate(asked)
    ]
    (folder / "labels.jsonl").write_text("".join(json.dumps(label) + "\n" for label in labels))
