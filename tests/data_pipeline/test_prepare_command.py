"""What the flags of data_pipeline.prepare may be."""

import pytest

from data_pipeline import prepare
from svtas_jax.errors import InputError


def test_weights_to_start_from_are_looked_for_at_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.pth").touch()
    assert prepare.weights_of("") == ""
    assert prepare.weights_of("imagenet") == "imagenet"
    assert prepare.weights_of("a.pth") == str(tmp_path / "a.pth")
    with pytest.raises(InputError, match=r"--init_from=b\.pth does not exist"):
        prepare.weights_of("b.pth")
    with pytest.raises(InputError, match="is a folder.*config.train.init_from=RUN"):
        prepare.weights_of(str(tmp_path))
