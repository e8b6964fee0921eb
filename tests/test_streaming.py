"""How a stream computes on this machine; what it computes: tests/test_contract.py."""

import platform
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from svtas_jax import streaming
from svtas_jax.streaming import make_segmenter


def test_bfloat16_computes_close_to_float32(tiny):
    exact, rough = tiny.model(), tiny.model(dtype="bfloat16")
    variables = tiny.variables(exact)
    chunks = tiny.chunks(2, 1)
    logits, rough_logits = (
        make_segmenter(model)(variables, model.initial_state(1), chunks)[1]
        for model in (exact, rough)
    )
    assert rough_logits.dtype == jnp.float32
    assert np.abs(logits - rough_logits).max() < 0.05 * np.abs(logits).max()


@pytest.fixture
def options(monkeypatch):
    """Asks for the options anew, for given ones and features of the CPU."""

    def ask(given, *features):
        monkeypatch.setattr(streaming, "_CPU_OPTIONS", given)
        monkeypatch.setattr(streaming, "_cpu_features", lambda: frozenset(features))
        streaming._inference_options.cache_clear()
        return streaming._inference_options()

    yield ask
    streaming._inference_options.cache_clear()


KNOWN = {"xla_cpu_prefer_vector_width": 256}
on_cpu = pytest.mark.skipif(jax.default_backend() != "cpu", reason="options of a CPU")


@on_cpu
def test_options_that_xla_does_not_know_are_left_out(options):
    given = {"avx512f": {**KNOWN, "xla_cpu_no_such_option": True}}
    assert options(given, "avx2", "avx512f") == KNOWN
    assert streaming.compile_inference(lambda x: 2 * x)(3) == 6


@on_cpu
def test_options_are_those_of_the_features_that_the_cpu_has(options):
    given = {"sse4_2": KNOWN, "avx512f": {"xla_cpu_prefer_vector_width": 512}}
    assert options(given, "sse4_2", "avx2") == KNOWN
    assert options(given, "sse4_2", "avx512f") == given["avx512f"]
    assert options(given) == {}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.skipif(platform.machine() != "x86_64", reason="reads flags of x86")
def test_features_of_a_cpu_are_read():
    assert {"sse2", "fpu"} <= streaming._cpu_features()
