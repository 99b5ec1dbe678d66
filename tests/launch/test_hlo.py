"""Counting what a module moves: a text written by hand, and a step compiled for eight devices."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from aloe_jax.launch.hlo import parse, traffic
from aloe_jax.parallel.mesh import make_mesh

# A loop of 5 runs with a gather over 4 chips, in two clones of one channel, a fusion in which another one reads a slice
# of its operand, and a kernel; a reduction in another form of groups; a loop without a stated bound around a permute.
TEXT = """HloModule jit_step, is_scheduled=true, num_partitions=8

%sum (a: f32[], b: f32[]) -> f32[] {
  %a = f32[]{:T(128)} parameter(0)
  %b = f32[]{:T(128)} parameter(1)
  ROOT %add = f32[]{:T(128)} add(%a, %b)
}

%sliced (p0: f32[5,100], p1: s32[]) -> f32[100] {
  %p0 = f32[5,100]{1,0:T(8,128)} parameter(0)
  %p1 = s32[]{:T(128)} parameter(1)
  %slice = f32[1,100]{1,0} dynamic-slice(%p0, %p1, %p1), dynamic_slice_sizes={1,100}
  ROOT %flat = f32[100]{0} bitcast(%slice)
}

%nested (p3: f32[5,100], p4: s32[]) -> f32[100] {
  %p3 = f32[5,100]{1,0:T(8,128)} parameter(0)
  %p4 = s32[]{:T(128)} parameter(1)
  ROOT %inner = f32[100]{0} fusion(%p3, %p4), kind=kLoop, calls=%sliced
}

%gathered (p2: bf16[25]) -> bf16[100] {
  %p2 = bf16[25]{0} parameter(0)
  ROOT %all-gather.2 = bf16[100]{0} all-gather(%p2), channel_id=7, replica_groups={{0,1,2,3},{4,5,6,7}}, dimensions={0}
}

%body (state: (s32[], bf16[25], /*index=2*/f32[5,100])) -> (s32[], bf16[25], f32[5,100]) {
  %state = (s32[]{:T(128)}, bf16[25]{0}, /*index=2*/f32[5,100]{1,0}) parameter(0)
  %number = s32[]{:T(128)} get-tuple-element(%state), index=0
  %part = bf16[25]{0} get-tuple-element(%state), index=1
  %stack = f32[5,100]{1,0} get-tuple-element(%state), index=2
  %all-gather.1 = bf16[100]{0} all-gather(%part), channel_id=7, replica_groups={{0,1,2,3},{4,5,6,7}}, dimensions={0}
  %again = bf16[100]{0} fusion(%part), kind=kCustom, calls=%gathered
  %row = f32[100]{0:T(128)S(1)} fusion(%stack, %number), kind=kOutput, calls=%nested
  %kernel = f32[100]{0} custom-call(%row), custom_call_target="tpu_custom_call"
  ROOT %next = (s32[]{:T(128)}, bf16[25]{0}, f32[5,100]{1,0}) tuple(%number, %part, %stack)
}

%condition (state.1: (s32[], bf16[25], f32[5,100])) -> pred[] {
  %state.1 = (s32[]{:T(128)}, bf16[25]{0}, f32[5,100]{1,0}) parameter(0)
  %bound = s32[]{:T(128)} constant(5)
  %at = s32[]{:T(128)} get-tuple-element(%state.1), index=0
  ROOT %lt = pred[]{:T(512)} compare(%at, %bound), direction=LT
}

%outer_body (pair: (s32[], f32[10])) -> (s32[], f32[10]) {
  %pair = (s32[]{:T(128)}, f32[10]{0:S(1)}) parameter(0)
  %count = s32[]{:T(128)} get-tuple-element(%pair), index=0
  %given = f32[10]{0:S(1)} get-tuple-element(%pair), index=1
  %start = (f32[10]{0:S(1)}, f32[10]{0:S(1)}) collective-permute-start(%given), source_target_pairs={{0,1}}
  %done = f32[10]{0:S(1)} collective-permute-done(%start)
  ROOT %both = (s32[]{:T(128)}, f32[10]{0:S(1)}) tuple(%count, %done)
}

%outer_condition (pair.1: (s32[], f32[10])) -> pred[] {
  %pair.1 = (s32[]{:T(128)}, f32[10]{0:S(1)}) parameter(0)
  %now = s32[]{:T(128)} get-tuple-element(%pair.1), index=0
  ROOT %less = pred[]{:T(512)} compare(%now, %now), direction=LT
}

ENTRY %main (x: (s32[], bf16[25], f32[5,100]), y: f32[16], z: (s32[], f32[10])) -> f32[16] {
  %x = (s32[]{:T(128)}, bf16[25]{0}, f32[5,100]{1,0}) parameter(0)
  %y = f32[16]{0:S(1)} parameter(1)
  %z = (s32[]{:T(128)}, f32[10]{0:S(1)}) parameter(2)
  %loop = (s32[]{:T(128)}, bf16[25]{0}, f32[5,100]{1,0}) while(%x), condition=%condition, body=%body
  %outer = (s32[]{:T(128)}, f32[10]{0:S(1)}) while(%z), condition=%outer_condition, body=%outer_body
  ROOT %all = f32[16]{0:S(1)} all-reduce(%y), channel_id=8, replica_groups=mesh['a'=2,'b'=4] {'a','b'}, to_apply=%sum
}
"""


def test_a_text_counted_by_hand():
    """All-gather: 5 runs x 50 bytes x 3 other chips. All-reduce over 8: 64 bytes x 7 / 8 there and back. The permute's
    loop has no bound: as often as is said."""
    found = traffic(parse(TEXT), unknown_trips=3)
    assert found.received == {"all-gather": 5 * 150, "all-reduce": 2 * 64 * 7 / 8, "collective-permute": 3 * 40}
    assert found.runs == {"all-gather": 5, "all-reduce": 1, "collective-permute": 3}
    # A run: both gathers read 50 and write 200; the fusion reads the number and its slice of the stack and leaves its
    # result on the chip; the kernel writes 400.
    assert found.hbm == 5 * (2 * (50 + 200) + 4 + 400 + 400)


def test_what_is_no_module():
    with pytest.raises(ValueError, match="no ENTRY"):
        parse("a text")


@pytest.mark.parametrize(("fsdp", "tensor"), [(8, 1), (4, 2)])
def test_a_module_compiled_for_eight_devices(fsdp, tensor):
    """A scan over six layers, x = x W with W split over fsdp by its first axis and x by rows: what reaches a device is
    the part of each W that it lacks, six times."""
    mesh = make_mesh(fsdp=fsdp, tensor=tensor)

    def place(*spec):
        return NamedSharding(mesh, PartitionSpec(*spec))

    def layers(x, weights):
        def body(x, weight):
            whole = jax.lax.with_sharding_constraint(weight, place())
            return x @ whole, None

        return jax.lax.with_sharding_constraint(jax.lax.scan(body, x, weights)[0], place("fsdp"))

    x = jax.ShapeDtypeStruct((64, 32), jnp.float32, sharding=place("fsdp"))
    weights = jax.ShapeDtypeStruct((6, 32, 32), jnp.float32, sharding=place(None, "fsdp"))
    found = traffic(parse(jax.jit(layers).lower(x, weights).compile().as_text()))
    assert found.received == {"all-gather": 6 * 32 * 32 * 4 * (fsdp - 1) / fsdp}
    assert found.runs == {"all-gather": 6}
