"""Files from the field."""

import pathlib

import pytest


@pytest.fixture(scope="session")
def cases() -> pathlib.Path:
    """The folder of files from the field."""
    return pathlib.Path(__file__).parent / "cases"
