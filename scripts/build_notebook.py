"""Makes docs/notebook.ipynb from docs/notebook.py: cells, and what they print.

    python scripts/build_notebook.py [--folder=.] [--output=docs/notebook.ipynb]

The cells run in --folder, which must hold the run and the video that they name: those
of `bash scripts/quickstart.sh`. Needs the extra [test].
"""

import pathlib
import re

import nbclient
import nbformat
from absl import flags, logging

from svtas_jax.errors import InputError
from svtas_jax.runtime import cli
from svtas_jax.runtime.files import write_atomic

SOURCE = pathlib.Path(__file__).resolve().parents[1] / "docs" / "notebook.py"
_TIMEOUT_S = 600  # of a cell


def main() -> None:
    """Runs the command."""
    folder, output = pathlib.Path(flags.FLAGS.folder), flags.FLAGS.output
    notebook = execute(read_cells(SOURCE), folder)
    write_atomic(output, nbformat.writes(notebook) + "\n")
    logging.info("%d cells: %s", len(notebook.cells), output)


def read_cells(path: pathlib.Path) -> nbformat.NotebookNode:
    """Returns the notebook of a Python file whose cells begin with "# %%"."""
    parts = re.split(r"^# %%(.*)\n", path.read_text(encoding="utf-8"), flags=re.M)
    notebook = nbformat.v4.new_notebook()
    notebook.metadata["kernelspec"] = {
        **{"name": "python3", "language": "python"},
        "display_name": "Python 3",
    }
    for index, (kind, text) in enumerate(zip(parts[1::2], parts[2::2], strict=True)):
        text = text.strip()
        if kind.strip() == "[markdown]":
            text = re.sub(r"^# ?", "", text, flags=re.M)
            cell = nbformat.v4.new_markdown_cell(text)
        else:
            cell = nbformat.v4.new_code_cell(text)
        cell["id"] = f"cell-{index}"  # nbformat's own ids differ every time
        notebook.cells.append(cell)
    return notebook


def execute(
    notebook: nbformat.NotebookNode, folder: pathlib.Path
) -> nbformat.NotebookNode:
    """Runs the cells in a folder; returns the notebook with what they print.

    Raises:
        InputError: if a cell fails.
    """
    client = nbclient.NotebookClient(
        notebook,
        timeout=_TIMEOUT_S,
        resources={"metadata": {"path": str(folder)}},
        record_timing=False,
    )
    try:
        return client.execute()
    except nbclient.exceptions.CellExecutionError as error:
        raise InputError(
            f"a cell of {SOURCE.name} fails in {folder}: {error.ename}: "
            f"{error.evalue}. Run `bash scripts/quickstart.sh` there first."
        ) from error


if __name__ == "__main__":
    flags.DEFINE_string("folder", ".", "Where the cells run.")
    flags.DEFINE_string("output", "docs/notebook.ipynb", "File to write.")
    cli.run(main, required=())
