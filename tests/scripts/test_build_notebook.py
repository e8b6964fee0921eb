"""The notebook in docs/ is that of its source, and its source runs."""

import os
import pathlib
import subprocess
import sys

import nbformat
import pytest
from build_notebook import SOURCE, read_cells

from svtas_jax.training import loop

ROOT = pathlib.Path(__file__).parents[2]


def sources(notebook):
    return [(cell.cell_type, cell.source) for cell in notebook.cells]


def test_the_notebook_has_the_cells_of_its_source_and_their_output():
    notebook = nbformat.read(ROOT / "docs" / "notebook.ipynb", as_version=4)
    assert sources(notebook) == sources(read_cells(SOURCE))
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.outputs for cell in code)
    kinds = [output.output_type for cell in code for output in cell.outputs]
    assert "error" not in kinds and "execute_result" in kinds


@pytest.mark.slow
@pytest.mark.usefixtures("tiny_commands")
def test_every_cell_runs(folder, tiny, tmp_path):
    config = tiny.config("transeger")
    config.model.image_stages = 2  # what `tiny_commands` builds
    folder.add("S1_Coffee_C1", 29)
    folder.add("other", 17, subsets=("train",))
    config.data.update(root=str(folder.root), dataset="tiny")
    config.train.update(num_epochs=1, selection="test")
    (folder.root / "splits" / "test.split1.bundle").write_text("S1_Coffee_C1.txt\n")
    (folder.root / "splits" / "train.split1.bundle").write_text("other.txt\n")
    loop.train(config, str(tmp_path / "runs" / "demo_transeger"))
    (tmp_path / "data" / "demo").mkdir(parents=True)
    (tmp_path / "data" / "demo" / "Videos").symlink_to(folder.root / "Videos")
    video = folder.root / "Videos" / "S1_Coffee_C1.avi"
    video.rename(video.with_suffix(".mp4"))  # what it holds counts, not its name
    output = tmp_path / "notebook.ipynb"
    subprocess.run(
        [
            *(sys.executable, str(ROOT / "scripts" / "build_notebook.py")),
            *(f"--folder={tmp_path}", f"--output={output}"),
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"},
        check=True,
    )
    notebook = nbformat.read(output, as_version=4)
    assert sources(notebook) == sources(read_cells(SOURCE))
    text = nbformat.writes(notebook)
    assert "the same labels: True" in text and "image/png" in text
