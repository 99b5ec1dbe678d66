"""The TRL side of online_cost.py. Its arguments are ANSWERS IDS: a file descriptor and a file of token ids.

Folds the sequences into one row with the class that TRL's experimental async_grpo packs its rollouts with, and counts.
Needs the files of trl, torch and transformers; nothing of TRL but the file of that class is loaded.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import torch
from worker import serve


def main() -> None:
    descriptor, ids = int(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text())
    package = importlib.util.find_spec("trl")
    assert package is not None
    assert package.submodule_search_locations
    place = Path(package.submodule_search_locations[0]) / "experimental" / "async_grpo" / "packing.py"
    spec = importlib.util.spec_from_file_location("packing", place)
    assert spec is not None
    assert spec.loader
    packing = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(packing)
    row = packing.TreeRow()
    for sample in ids:
        tokens, mask = torch.tensor(sample["ids"]), torch.tensor(sample["mask"])
        none = torch.zeros(len(tokens))
        row.add({"input_ids": tokens, "completion_mask": mask, "old_log_probs": none, "advantage": 0.0, "group_id": 0})
    packed = row.pack()
    counts = {"samples": len(ids), "tokens": len(packed["input_ids"]), "keys": len(packed["tree_kv_index"])}
    serve(descriptor, counts, lambda question: None)


if __name__ == "__main__":
    main()
