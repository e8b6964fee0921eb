"""What a compiled program's text says of kernels, bytes and operations."""

import pytest

from svtas_jax.cost import cards, hlo

PROGRAM = """
HloModule jit_run, is_scheduled=true

%fused_add (param_0: f32[8,4], param_1: f32[8,16]) -> f32[8,4] {
  %param_0 = f32[8,4]{1,0} parameter(0)
  %param_1 = f32[8,16]{1,0} parameter(1)
  %slice.1 = f32[8,4]{1,0} slice(%param_1), slice={[0:8], [4:8]}
  ROOT %add.1 = f32[8,4]{1,0} add(%param_0, %slice.1), NAME
}

%fused_reduce (param_0.1: f32[8,4]) -> (f32[4], f32[4]) {
  %param_0.1 = f32[8,4]{1,0} parameter(0)
  %zero = f32[] constant(0)
  %reduce.1 = f32[4]{0} reduce(%param_0.1, %zero), dimensions={0}, to_apply=%sum
  ROOT %tuple.1 = (f32[4]{0}, f32[4]{0}) tuple(%reduce.1, %reduce.1)
}

%sum (x: f32[], y: f32[]) -> f32[] {
  %x = f32[] parameter(0)
  %y = f32[] parameter(1)
  ROOT %total = f32[] add(%x, %y)
}

%body (state: (s32[], f32[8,4], f32[8,16])) -> (s32[], f32[8,4], f32[8,16]) {
  %state = (s32[], f32[8,4]{1,0}, f32[8,16]{1,0}) parameter(0)
  %index = s32[] get-tuple-element(%state), index=0
  %left = f32[8,4]{1,0} get-tuple-element(%state), index=1
  %right = f32[8,16]{1,0} get-tuple-element(%state), index=2
  %fusion.1 = f32[8,4]{1,0} fusion(%left, %right), kind=kLoop, calls=%fused_add
  ROOT %next = (s32[], f32[8,4]{1,0}, f32[8,16]{1,0}) tuple(%index, %fusion.1, %right)
}

%condition (state.1: (s32[], f32[8,4], f32[8,16])) -> pred[] {
  %state.1 = (s32[], f32[8,4]{1,0}, f32[8,16]{1,0}) parameter(0)
  ROOT %go = pred[] constant(true)
}

ENTRY %main (first: f32[8,4], second: f32[8,16], third: bf16[4,32]) -> bf16[8,32] {
  %first = f32[8,4]{1,0} parameter(0)
  %second = f32[8,16]{1,0} parameter(1)
  %third = bf16[4,32]{1,0} parameter(2)
  %zero.1 = s32[] constant(0)
  %start = (s32[], f32[8,4]{1,0}, f32[8,16]{1,0}) tuple(%zero.1, %first, %second)
  %while.1 = (s32[], f32[8,4]{1,0}, f32[8,16]{1,0}) while(%start), COUNT
  %result = f32[8,4]{1,0} get-tuple-element(%while.1), index=1
  %all-reduce-start.1 = f32[8,4]{1,0} all-reduce-start(%result), to_apply=%sum
  %sums = (f32[4]{0}, f32[4]{0}) fusion(%result), kind=kInput, calls=%fused_reduce
  %all-reduce-done.1 = f32[8,4]{1,0} all-reduce-done(%all-reduce-start.1)
  %all-gather.1 = f32[16,4]{1,0} all-gather(%all-reduce-done.1), dimensions={0}
  %narrow = bf16[8,4]{1,0} convert(%all-reduce-done.1)
  %product = (bf16[8,32]{1,0}, s8[4096]{0}) custom-call(%narrow, %third), CUBLAS
  ROOT %output = bf16[8,32]{1,0} get-tuple-element(%product), index=0
}
"""
LONG = {
    "NAME": 'metadata={op_name="jit(run)/while/body/Net/layer/add"}',
    "COUNT": "condition=%condition, body=%body, "
    'backend_config={"known_trip_count":{"n":"5"}}',
    "CUBLAS": 'custom_call_target="__cublas$lt$matmul", backend_config='
    '{"dot_dimension_numbers":{"lhs_contracting_dimensions":["1"]}}',
}
for word, attributes in LONG.items():
    PROGRAM = PROGRAM.replace(word, attributes)


@pytest.fixture(scope="module")
def found():
    return {kernel.name: kernel for kernel in hlo.kernels(PROGRAM)}


def test_arrays_have_sizes():
    arrays = hlo.arrays_in("(bf16[2,3]{1,0}, pred[5]{0}, f8e4m3fn[7]{0}, s32[])")
    assert [array.num_bytes for array in arrays] == [12, 5, 56 // 8, 4]


def test_a_loop_runs_its_kernels_as_often_as_it_turns(found):
    fusion = found["fusion.1"]
    assert (fusion.kind, fusion.times, fusion.layer) == ("fusion", 5, "Net/layer")


def test_of_what_is_sliced_only_the_slice_is_read(found):
    assert found["fusion.1"].num_bytes == 4 * (8 * 4 + 8 * 4 + 8 * 4)


def test_a_reduction_writes_every_result(found):
    assert found["sums"].kind == "reduction"
    assert found["sums"].num_bytes == 4 * (8 * 4 + 2 * 4)


def test_a_product_has_operations_and_needs_no_memory_of_its_own(found):
    product = found["product"]
    assert (product.kind, product.dtype) == ("product", "bf16")
    assert product.flops == 2 * 8 * 4 * 32
    assert product.num_bytes == 2 * (8 * 4 + 4 * 32 + 8 * 32)


def test_collective_operations_are_told_apart(found):
    hidden, shown = found["all-reduce-start.1"], found["all-gather.1"]
    assert (hidden.kind, hidden.is_overlapped) == ("all-reduce", True)
    assert (shown.kind, shown.is_overlapped) == ("all-gather", False)
    assert (hidden.num_bytes, shown.num_bytes) == (4 * 8 * 4, 4 * 16 * 4)


def test_names_and_memory_are_no_kernels(found):
    names = {"fusion.1", "sums", "all-reduce-start.1", "all-gather.1", "narrow"}
    assert set(found) == names | {"product"}


def test_a_card_needs_its_time_for_bytes_or_operations_and_a_launch():
    card = cards.CARDS["h100"]
    moves = hlo.Kernel("a", "fusion", "", num_bytes=3_000_000_000, times=2)
    computes = hlo.Kernel("b", "product", "", 0, flops=8 * 10**14, dtype="bf16")
    sends = hlo.Kernel("c", "all-reduce", "", num_bytes=10**12)
    assert cards.modelled_ms([moves, computes, sends], card) == pytest.approx(
        2 * 1 + 1000 + 3 * 2.5e-3
    )
