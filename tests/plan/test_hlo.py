"""Counting what a module moves: a text written by hand, and a step compiled for eight devices."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from aloe_jax.parallel.mesh import make_mesh
from aloe_jax.plan.hlo import UnreadableModuleError, traffic_of

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
    loop has no bound: it runs as often as the caller says."""
    found = traffic_of(TEXT, unknown_trips=3)
    assert found.received == {"all-gather": 5 * 150, "all-reduce": 2 * 64 * 7 / 8, "collective-permute": 3 * 40}
    assert found.runs == {"all-gather": 5, "all-reduce": 1, "collective-permute": 3}
    # A run: both gathers read 50 and write 200; the fusion reads the number and its slice of the stack and leaves its
    # result on the chip; the kernel writes 400.
    assert found.hbm == 5 * (2 * (50 + 200) + 4 + 400 + 400)
    assert found.over == {(0, 1, 2, 3): 5 * 150, tuple(range(8)): 2 * 64 * 7 / 8, (0,): 3 * 40}
    assert found.unbounded == ()


def module(entry, *computations, partitions=4):
    """The text of a module whose entry has those lines."""
    body = "\n".join(f"  {line}" for line in entry)
    head = f"HloModule jit_f, is_scheduled=true, num_partitions={partitions}"
    return "\n\n".join([head, *computations, f"ENTRY %main (x: f32[25]) -> f32[25] {{\n{body}\n}}\n"])


COUNTED = """%condition (s: (s32[], f32[25])) -> pred[] {
  %s = (s32[], f32[25]{0}) parameter(0)
  %bound = s32[] constant(31)
  %at = s32[] get-tuple-element(%s), index=0
  ROOT %less = pred[] LESS
}"""
GATHER = "all-gather(%part), channel_id=3, replica_groups=[1,4]<=[4], dimensions={0}"
LOOP = f"""%body (t: (s32[], f32[25])) -> (s32[], f32[25]) {{
  %t = (s32[], f32[25]{{0}}) parameter(0)
  %number = s32[] get-tuple-element(%t), index=0
  %part = f32[25]{{0}} get-tuple-element(%t), index=1
  %again = f32[100]{{0}} {GATHER}
  ROOT %next = (s32[], f32[25]{{0}}) tuple(%number, %part)
}}"""
RUN = [
    "%x = (s32[], f32[25]{0}) parameter(0)",
    "%part = f32[25]{0} get-tuple-element(%x), index=1",
    "ROOT %loop = (s32[], f32[25]{0}) while(%x), condition=%condition, body=%body",
]


def test_a_gather_moved_ahead_of_its_loop_counts_beside_the_one_inside():
    """The first run in the entry, 31 in the loop, all of one channel: 32 x 3 x 100 bytes."""
    condition = COUNTED.replace("LESS", "compare(%at, %bound), direction=LT")
    ahead = f"%first = f32[100]{{0}} {GATHER}"
    found = traffic_of(module([*RUN[:2], ahead, RUN[2]], condition, LOOP))
    assert found.runs == {"all-gather": 32}
    assert found.received == {"all-gather": 32 * 300}


def test_a_gather_in_a_fusion_that_computes_is_beside_it():
    """Of 31 x 300 bytes in the loop, and of a sum of 2 x 100 x 3 / 4 beside which nothing is computed."""
    condition = COUNTED.replace("LESS", "compare(%at, %bound), direction=LT")
    fused = f"""%async_collective_fusion.1 (p: f32[25]) -> f32[100] {{
  %part = f32[25]{{0}} parameter(0)
  ROOT %step = f32[100]{{0}} {GATHER}
}}"""
    line = "%again = f32[100]{0} fusion(%part), kind=kCustom, calls=%async_collective_fusion.1"
    loop = LOOP.replace(f"%again = f32[100]{{0}} {GATHER}", line)
    added = "%sum = f32[25]{0} all-reduce(%part), channel_id=4, replica_groups=[1,4]<=[4], to_apply=%add"
    found = traffic_of(module([*RUN[:2], added, RUN[2]], condition, loop, fused))
    assert found.received == {"all-gather": 31 * 300, "all-reduce": 150}
    assert found.beside == 31 * 300


def test_a_bound_behind_a_fusion():
    compared = """%compared (a: s32[], b: s32[]) -> pred[] {
  %b = s32[] parameter(1)
  %a = s32[] parameter(0)
  ROOT %lt = pred[] compare(%a, %b), direction=LT
}"""
    condition = COUNTED.replace("LESS", "fusion(%at, %bound), kind=kLoop, calls=%compared")
    found = traffic_of(module(RUN, compared, condition, LOOP))
    assert (found.runs, found.unbounded) == ({"all-gather": 31}, ())


def test_loops_without_a_bound_are_named():
    """Only one is expected, that over micro-batches. Of two that might be it, neither is certain."""
    condition = COUNTED.replace("LESS", "compare(%at, %at), direction=LT")
    one = module(RUN, condition, LOOP)
    assert (traffic_of(one).runs, traffic_of(one).unbounded) == ({"all-gather": 1}, ("loop",))
    assert (traffic_of(one, 6).runs, traffic_of(one, 6).unbounded) == ({"all-gather": 6}, ())
    two = module([*RUN[:2], RUN[2].replace("ROOT %loop", "%other"), RUN[2]], condition, LOOP)
    assert traffic_of(two, 6).unbounded == ("other", "loop")
    outer = LOOP.replace("%body", "%outer").replace("%again", "%inner").replace("f32[100]{0} " + GATHER, "f32[25]{0} x")
    outer = outer.replace("f32[25]{0} x", "(s32[], f32[25]{0}) while(%t), condition=%condition, body=%body")
    nested = module([*RUN[:2], RUN[2].replace("%body", "%outer")], condition, LOOP, outer)
    assert (traffic_of(nested, 6).runs, traffic_of(nested, 6).unbounded) == ({"all-gather": 6}, ("inner",))


def test_names_without_a_sign():
    """As another version of XLA prints them, with or without the operands' shapes."""
    assert traffic_of(TEXT.replace("%", ""), 3) == traffic_of(TEXT, 3)
    shaped = TEXT.replace("all-reduce(%y)", "all-reduce(f32[16]{0:T(8,128)S(1)} y)")
    shaped = shaped.replace("while(%z)", "while((s32[], (f32[10]{0}, s32[])) z)")
    assert traffic_of(shaped, 3) == traffic_of(TEXT, 3)


def test_a_collective_that_cannot_be_read_is_an_error():
    with pytest.raises(ValueError, match="all-reduce all has operands that are not in its computation"):
        traffic_of(TEXT.replace("all-reduce(%y)", "all-reduce(%w)"))
    with pytest.raises(ValueError, match="all has replica groups of an unknown form"):
        traffic_of(TEXT.replace("mesh['a'=2,'b'=4] {'a','b'}", "@elsewhere"))


@pytest.mark.parametrize(("stated", "moved"), [('"bytes_accessed":"300"', 300), ('"bytes_accessed":"9999"', 2100)])
def test_a_kernel_counts_with_what_it_states_up_to_its_operands_and_results(stated, moved):
    """It reads a pool of 2,000 bytes and writes 100."""
    config = f'backend_config={{"custom_call_config":{{"cost_estimate":{{"flops":"7",{stated}}}}}}}'
    lines = [
        "%x = f32[500]{0} parameter(0)",
        f'ROOT %k = f32[25]{{0}} custom-call(%x), custom_call_target="tpu_custom_call", {config}',
    ]
    assert traffic_of(module(lines)).hbm == moved


@pytest.mark.parametrize(
    ("groups", "members"),
    [
        ("{{0,4},{1,5},{2,6},{3,7}}", (0, 4)),
        ("[4,2]<=[8]", (0, 1)),
        ("[4,2]<=[2,4]T(1,0)", (0, 4)),
        ("mesh['a'=2,'b'=4] {'a'}", (0, 4)),
        ("mesh['a'=2,'b'=4] {'b'}", (0, 1, 2, 3)),
        ("mesh['a'=2,'b'=1,'c'=4], device_ids=([4,2]T(1,0)) {'c'}", (0, 2, 4, 6)),
        ("mesh['a'=2,'b'=4], device_ids=([4,2]T(1,0)) {'a','b'}", (0, 2, 4, 6, 1, 3, 5, 7)),
        ("{}", tuple(range(8))),
    ],
)
def test_who_takes_part(groups, members):
    """f32[25] of each: 100 bytes from every other chip."""
    lines = ["%x = f32[25]{0} parameter(0)", f"ROOT %g = f32[50]{{0}} all-gather(%x), replica_groups={groups}"]
    assert traffic_of(module(lines, partitions=8)).over == {members: 100 * (len(members) - 1)}


def test_sums_of_which_each_chip_keeps_a_part():
    """As a TPU's compiler fuses them, all under one channel: two of 400 bytes over 4 chips."""
    scatter = """%all-reduce-scatter.1 (p: f32[100]) -> f32[25] {
  %p = f32[100]{0} parameter(0)
  %sum = f32[100]{0} all-reduce(%p), channel_id=1, replica_groups={{0,1,2,3}}
  ROOT %kept = f32[25]{0} dynamic-slice(%sum)
}"""
    fusion = "f32[25]{0} fusion(%x), kind=kCustom, calls=%all-reduce-scatter"
    lines = ["%x = f32[100]{0} parameter(0)", f"%a = {fusion}.1", f"ROOT %b = {fusion}.2"]
    found = traffic_of(module(lines, scatter, scatter.replace("scatter.1", "scatter.2")))
    assert (found.runs, found.received) == ({"reduce-scatter": 2}, {"reduce-scatter": 2 * 300})


REDUCE = """%wrapped (p: f32[100]) -> f32[25] {
  %p = f32[100]{0} parameter(0)
  ROOT %scattered = f32[25]{0} reduce-scatter(%p), channel_id=9, replica_groups={}, dimensions={0}
}"""


@pytest.mark.parametrize(
    ("start", "done", "hbm"),
    [
        # reads 100, writes 400
        ("(f32[25]{0}, f32[100]{0}) all-gather-start(%x)", "f32[100]{0} all-gather-done(%s)", 500),
        ("f32[25]{0} all-reduce-start(%x)", "f32[25]{0} all-reduce-done(%s)", 200),
        ("(f32[25]{0}, f32[25]{0}, u32[], u32[]) collective-permute-start(%x)", "f32[25]{0} x-done(%s)", 200),
        # reads 400, writes 100
        ("((f32[100]{0}), f32[25]{0}, s32[]) async-start(%y), calls=%wrapped", "f32[25]{0} async-done(%s)", 500),
        ("((f32[100]{0}), f32[25]{0}, s32[]) reduce-scatter-start(%y)", "f32[25]{0} reduce-scatter-done(%s)", 500),
        # part of an array, to a memory on the chip, and to HBM; an array from there
        ("((f32[100]{0}), f32[25]{0:S(1)}, s32[]) slice-start(%y)", "f32[25]{0:S(1)} slice-done(%s)", 100),
        ("((f32[100]{0}), f32[25]{0}, s32[]) slice-start(%y)", "f32[25]{0} slice-done(%s)", 200),
        ("(f32[25]{0:S(1)}, f32[25]{0}, u32[]) copy-start(%x)", "f32[25]{0:S(1)} copy-done(%s)", 100),
    ],
)
def test_a_start_counts_as_what_it_starts(start, done, hbm):
    lines = ["%x = f32[25]{0} parameter(0)", "%y = f32[100]{0} parameter(1)", f"%s = {start}", f"ROOT %d = {done}"]
    assert traffic_of(module(lines, REDUCE)).hbm == hbm


def test_what_is_no_module():
    with pytest.raises(ValueError, match="no ENTRY"):
        traffic_of("a text")


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
    found = traffic_of(jax.jit(layers).lower(x, weights).compile().as_text())
    assert found.received == {"all-gather": 6 * 32 * 32 * 4 * (fsdp - 1) / fsdp}
    assert found.runs == {"all-gather": 6}


@pytest.mark.parametrize(
    ("printed", "otherwise", "said"),
    [
        ("calls=%gathered", "calls=%elsewhere", "the computation elsewhere is called but not found"),
        ("bf16[100]{0} fusion(%part)", "bf16[100]{0}fusion(%part)", "again has no operation"),
        ("compare(%at, %bound)", "compare(%at)", "IndexError"),
        ("mesh['a'=2,'b'=4] {'a','b'}", "{{6,7,8}}", "all groups chips .* of 8"),
        ("\n  ", "\n", "no instruction is found"),
    ],
)
def test_a_text_in_another_form_is_one_kind_of_error(printed, otherwise, said):
    assert printed in TEXT
    with pytest.raises(UnreadableModuleError, match=said):
        traffic_of(TEXT.replace(printed, otherwise))
