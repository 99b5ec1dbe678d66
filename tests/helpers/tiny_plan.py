"""A config file with a tiny model that is compiled for a real slice in seconds, and what a compiler says."""

import importlib.util

import pytest

from aloe_jax.plan.figures import Figures
from aloe_jax.plan.settings import BenchmarkDialogues, GrownConversations, PlannedSettings

needs_libtpu = pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed")
CONFIG = """
from ml_collections import ConfigDict

from aloe_jax.cli.experiment import experiment

SIZES = {"architectures": ["LlamaForCausalLM"], "vocab_size": 256, "hidden_size": 128, "num_hidden_layers": 2,
         "num_attention_heads": 4, "num_key_value_heads": 4, "intermediate_size": 256, "max_position_embeddings": 512,
         "rope_theta": 10000.0, "rms_norm_eps": 1e-5, "tie_word_embeddings": False}


def get_config(arg=""):
    config = experiment()
    config.model.source, config.model.sizes = "nobody/nothing", ConfigDict(SIZES)
    config.compute.attention = "dense"
    config.conversations.turns = 2
    config.dataset.row.tokens, config.dataset.row.targets, config.dataset.max_path = 512, 384, 512
    config.dataset.row.replies, config.dataset.row.pairs = 32, 16
    config.serve.slots, config.serve.context = 4, 128
    config.preference.batch = 2
    return config.lock()
"""
TOO_LARGE = (
    "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO temporaries (18.00G) exceeds "
    "available HBM (15.75G)."
)
COMPILED = Figures(2.0**30, temporaries=2.0**29, hbm=1e9, seconds=1.0)


def planned(sections):
    """What a plan reads of the settings objects of all sections."""
    grown, dialogues = sections["conversations"], sections["benchmark"]
    return PlannedSettings(
        sections,
        GrownConversations(grown.trees, grown.turns, grown.mix.total()),
        BenchmarkDialogues(dialogues.turns, dialogues.max_tokens),
    )
