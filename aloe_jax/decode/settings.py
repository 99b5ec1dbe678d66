"""`config.decode`: how models decode, in the stages and in plans."""

from __future__ import annotations

from dataclasses import dataclass

from jax.sharding import Mesh

from aloe_jax.parallel.mesh import MeshSettings
from aloe_jax.settings import section, setting

AUTO = "auto"


@dataclass(frozen=True)
class DecodeMeshSettings(MeshSettings):
    """`config.decode.mesh`: the arrangement of the devices of all processes for decoding."""

    replica: int = setting(1, "copies of the model over slices", decides=False)
    fsdp: int = setting(
        -1, "shares of the sequences, each with a whole model; -1 takes the devices left", decides=False
    )
    tensor: int = setting(1, "parts of every layer; must divide the model's key heads", decides=False)


@dataclass(frozen=True)
class DecodeSettings:
    """The decoding engine's mesh, type and cache; how many sequences it takes is in `config.serve`."""

    mesh: DecodeMeshSettings = section(DecodeMeshSettings)
    dtype: str = setting(
        AUTO,
        "type of weights, activations and cache: float32, bfloat16, or auto (bfloat16 on accelerators, float32 on "
        "CPUs)",
        choices=(AUTO, "float32", "bfloat16"),
        decides=False,
    )
    pages: int = setting(
        0,
        "pages of the cache per share of the sequences; 0: as many as serve.slots sequences of serve.context tokens "
        "may need",
        minimum=0,
        decides=False,
    )

    def build(self) -> Mesh:
        """The mesh over all devices. InputError as `make_mesh`."""
        return self.mesh.build(where="config.decode.mesh")

    def dtype_on(self, platform: str) -> str:
        """The type of weights, activations and cache on devices of that platform."""
        if self.dtype != AUTO:
            return self.dtype
        return "float32" if platform == "cpu" else "bfloat16"
