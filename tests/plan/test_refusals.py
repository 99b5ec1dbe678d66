"""Programs that the compiler refuses, and modules that cannot be read."""

import json
from types import SimpleNamespace

import jax
import pytest

from helpers.tiny_plan import TOO_LARGE, needs_libtpu


def refusing(text):
    def compiler(*given):
        raise jax.errors.JaxRuntimeError(text)

    return compiler


@needs_libtpu
class TestRefused:
    def test_what_does_not_fit_has_no_times(self, here, tmp_path):
        """18 GiB are needed: what is no parameter (f32) and no moment counts as temporaries."""
        code, out, said = here(refusing(TOO_LARGE), "--stage=sft", f"--json={tmp_path / 'plan.json'}", "--price=1")
        assert (code, said[-1]) == (
            1, "aloe: sft does not fit a chip of v5e:2x2; a micro-batch alone needs 18.0 GiB per chip on a larger "
            "slice too; try --search, a larger config.mesh.tensor, now 1, which splits it over chips, or shorter rows "
            "(config.dataset.row.tokens)"
        )  # fmt: skip
        assert "18.00 of 15.75 GiB: DOES NOT FIT" in out
        assert "temporaries at least 18.00" in out
        found = json.loads((tmp_path / "plan.json").read_text())
        (step,) = found["programs"]
        assert step["time"] is None
        memory = step["memory"]
        assert memory["temporaries"] + memory["parameters"] + memory["optimizer"] == memory["peak"] == 18 * 2**30
        for filled in (found["training"]["configured"], found["training"]["full"]):
            assert filled["seconds"] is filled["chip_seconds"] is filled["useful"] is None
        assert found["training"]["unshared_chip_seconds"] is None

    def test_any_other_refusal_is_a_sentence(self, here):
        code, out, said = here(
            refusing("INTERNAL: Mosaic failed to compile TPU kernel: VMEM.\nMLIR: ..."), "--stage=sft"
        )
        assert (code, out) == (2, "")
        assert said[-1].startswith("aloe: the TPU compiler refuses the program (INTERNAL: Mosaic failed")
        assert "MLIR" not in said[-1]

    def test_a_module_that_cannot_be_read_is_a_warning(self, here, tmp_path):
        """Memory, fit and times then are what the compiler says: 1 GiB at the peak, and 8.1e9 bytes to and from HBM."""
        memory = SimpleNamespace(peak_memory_in_bytes=2**30, argument_size_in_bytes=2**29, temp_size_in_bytes=2**28)
        compiled = SimpleNamespace(
            memory_analysis=lambda: memory,
            cost_analysis=lambda: {"bytes accessed": 8.1e9},
            as_text=lambda: "no module",
        )
        code, out, _ = here(lambda *given: compiled, "--stage=sft", f"--json={tmp_path / 'plan.json'}", "--price=1")
        assert code == 0
        warned = [line for line in out.splitlines() if "cannot be read" in line]
        assert len(warned) == 1
        assert "cannot be read (the text is no HLO module: it has no ENTRY computation): its traffic is" in warned[0]
        assert "1.00 of 15.75 GiB: fits" in out
        assert "interconnect       unknown" in out
        found = json.loads((tmp_path / "plan.json").read_text())
        (step,) = found["programs"]
        assert (step["hbm"], step["received"], step["memory"]["temporaries"]) == (8.1e9, {}, 2**28)
        assert step["unread"] == "the text is no HLO module: it has no ENTRY computation"
        assert step["time"]["memory"] == 8.1e9 / found["chip"]["hbm_bandwidth"]
        assert step["time"]["compute"] > step["time"]["interconnect"] == 0
        assert found["training"]["full"]["seconds"] == step["time"]["seconds"]

    def test_a_search_at_one_row_a_shard_splits_rows_over_more_chips(self, here, tmp_path):
        """Remat is full and there is one row on each of four shards. What is left: two and one rows, each over two and
        four chips, with batches that these hold."""
        tried = []

        def compiler(training, compute, row, model, mesh, rows, micro_batches):
            tried.append((dict(mesh.shape), rows, micro_batches, compute.remat))
            raise jax.errors.JaxRuntimeError(TOO_LARGE)

        code, out, said = here(compiler, "--stage=preference", "--search", f"--json={tmp_path / 'plan.json'}")
        assert (code, said[-1].partition("; ")[2]) == (
            1, "nothing that the search tried does; a micro-batch alone needs 18.0 GiB per chip on a larger slice too; "
            "try a larger config.mesh.tensor, now 1, which splits it over chips, or shorter rows "
            "(config.dataset.row.tokens)"
        )  # fmt: skip
        axes = [(4, 1), (2, 2), (1, 4)]
        assert tried == [({"replica": 1, "fsdp": fsdp, "tensor": tensor}, fsdp, 1, "full") for fsdp, tensor in axes]
        searched = json.loads((tmp_path / "plan.json").read_text())["search"]
        batches = [one["settings"]["config.preference.batch"] for one in searched]
        assert batches == [one["training"]["full"]["batch"] for one in searched]
        assert batches == sorted(batches, reverse=True)
        assert all(one["training"]["full"]["rows"] <= one["training"]["rows"] for one in searched)
        assert "--config.mesh.fsdp=1 --config.mesh.tensor=4" in out
        for one in searched:  # the learning rate goes with the square root of the batch, from 1e-5 for 2 pairs
            scale = (one["settings"]["config.preference.batch"] / 2) ** 0.5
            assert one["settings"]["config.preference.learning_rate"] == pytest.approx(1e-5 * scale, rel=5e-3)

    def test_a_search_first_leaves_the_second_gradient_out(self, here):
        """The batch has more than one micro-batch, and the policy keeps more than it has to."""
        tried = []

        def compiler(training, compute, row, model, mesh, rows, micro_batches):
            tried.append((rows, micro_batches, compute.remat))
            raise jax.errors.JaxRuntimeError(TOO_LARGE)

        larger = ("--config.preference.batch=40", "--config.preference.rows=8", "--config.compute.remat=dots")
        here(compiler, "--stage=preference", "--search", *larger)
        assert tried[0][1] > 1
        assert tried[1:] == [(8, 1, "full"), (4, 1, "full"), (2, 1, "full")]
