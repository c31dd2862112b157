"""The notebook of the examples, run by a real kernel."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[1] / "examples" / "notebook.ipynb"


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """Outputs of every code cell."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    folder = str(tmp_path_factory.mktemp("notebook"))
    client = NotebookClient(
        notebook, timeout=240, kernel_name="python3", resources={"metadata": {"path": folder}}
    )
    client.execute()
    return [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]


def shown(cell):
    return {kind for output in cell for kind in output.get("data", {})}


def test_the_pictures_and_the_table_are_shown(outputs):
    training, profile, table, metric = outputs
    assert "image/png" in shown(profile) & shown(metric)
    text = "".join(output["data"]["text/plain"] for output in table)
    assert all(layer in text for layer in ("input", "conv1", "conv2", "d1", "output"))
    assert not [o for o in training if o.output_type == "error"]


def test_the_notebook_in_the_repository_holds_its_outputs_and_no_path_of_a_machine():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert all(cell.outputs for cell in notebook.cells if cell.cell_type == "code")
    assert "site-packages" not in NOTEBOOK.read_text(encoding="utf-8")
