"""Names of the files that stages of data generation leave in a run directory and others read."""

PERSONAS, HELD_OUT = "personas.jsonl", "benchmark.jsonl"  # of `personas`: for training, held out for the benchmark
TREES, JUDGE = "trees.jsonl", "judge.json"  # of `conversations`: the accepted trees, how well a model judge judges
