"""Programs for a GPU, compiled on a machine without one.

Most tests need JAX's CUDA packages (`pip install -e '.[cuda]'`, 4 GB) and are left out
without them.
"""

import importlib.util
import json

import pytest

SCRIPT = "scripts/measure_accelerator_program.py"
HAS_CUDA = any(
    importlib.util.find_spec(f"jax_cuda{version}_plugin") for version in (12, 13)
)
needs_cuda = pytest.mark.skipif(not HAS_CUDA, reason="JAX's CUDA packages are missing")
SYSTEMS = (
    *("sete", "mete", "transeger", "sete_live", "transeger_live"),
    *("asformer", "mstcn", "i3d_mstcn", "gtrm"),
)


@pytest.fixture
def compiled(run_command, tmp_path, environment):
    """Compiles a config's programs for a GPU and returns the figures."""
    del environment["JAX_PLATFORMS"]

    def run(system, *arguments):
        path = tmp_path / "told.json"
        run_command(
            *(SCRIPT, f"--config=configs/gtea_{system}.py", f"--json={path}"),
            *arguments,
        )
        return json.loads(path.read_text())

    return run


@pytest.mark.skipif(HAS_CUDA, reason="JAX's CUDA packages are there")
def test_without_cuda_one_message_says_how_to_get_it(run_command):
    done = run_command(SCRIPT, "--config=configs/gtea_sete.py", code=2)
    last = done.stderr.splitlines()[-1]
    assert "CUDA packages" in last and "pip install" in last
    assert "Traceback" not in done.stderr


@needs_cuda
@pytest.mark.slow
@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("system", SYSTEMS)
def test_every_system_compiles_for_a_gpu(compiled, system, train):
    told = compiled(system, "--dtype=bfloat16", *["--train"] * train)
    program = told["programs"][0]
    assert program["kernels"] > 0 and program["modelled_ms"] >= program["floor_ms"]
    # A recurrent unit computes in float32.
    most = 0.3 if system == "gtrm" else 0.001
    narrow, flops = program["flops_by_type"].get("bf16", 0), program["flops"]
    assert flops - narrow <= most * flops
    copied = program["kinds"].get("copy", {"bytes": 0})["bytes"]
    assert copied < 0.05 * program["bytes"]


@needs_cuda
@pytest.mark.slow
def test_a_program_for_eight_devices_says_what_they_exchange(compiled):
    told = compiled("sete", "--train", "--devices=8", "--batch=1")
    chunk = told["programs"][0]
    assert (told["devices"], told["streams"]) == (8, 8)
    assert chunk["collectives"]["operations"] > 0
    sent = chunk["collectives"]
    assert 0 < sent["overlapped_bytes"] <= sent["bytes"]


@needs_cuda
@pytest.mark.slow
def test_folded_weights_leave_few_kernels(compiled):
    (chunk,) = compiled("sete", "--dtype=bfloat16")["programs"]
    assert chunk["kernels"] < 110 and chunk["bytes"] < 1.1e9
    _, ahead = compiled("transeger", "--dtype=bfloat16")["programs"]
    assert ahead["kernels"] < 115 and ahead["frames_per_s"] > 40_000
