import ast
import threading
import time

import numpy as np
import pytest

from svtas_jax.runtime import arrays


def test_arrays_come_as_they_were_written(tmp_path):
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.save(tmp_path / "a.npy", values)
    np.savez(tmp_path / "b.npz", x=values, y=values.T)
    np.testing.assert_array_equal(arrays.read_npy(tmp_path / "a.npy"), values)
    mapped = arrays.read_npy(tmp_path / "a.npy", mapped=True)
    assert isinstance(mapped, np.memmap)
    np.testing.assert_array_equal(mapped, values)
    both = arrays.read_npz(tmp_path / "b.npz")
    assert list(both) == ["x", "y"]
    np.testing.assert_array_equal(both["y"], values.T)


def test_pickles_are_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{}]))
    with pytest.raises(ValueError, match="allow_pickle"):
        arrays.read_npy(tmp_path / "a.npy")


@pytest.mark.parametrize("kept", [10, 200, -5])
def test_an_archive_that_is_cut_off_is_damaged(tmp_path, kept):
    path = tmp_path / "a.npz"
    np.savez(path, x=np.arange(1000.0))
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match="damaged"):
        arrays.read_npz(path)


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize("kept", [0, 10, 100, -5, None])
def test_what_is_no_array_is_refused(tmp_path, kept, mapped):
    """Archives too, which have other arrays than one, and files that are cut off."""
    np.savez(tmp_path / "a.npz", x=np.arange(1000.0))
    np.save(tmp_path / "a.npy", np.arange(1000.0))
    for path in (tmp_path / "a.npz", tmp_path / "a.npy"):
        path.write_bytes(path.read_bytes()[:kept])
        if kept is None and path.suffix == ".npy":
            continue
        with pytest.raises(ValueError):
            arrays.read_npy(path, mapped=mapped)


def test_a_changed_value_in_an_archive_is_damage(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, x=np.arange(1000.0))
    data = bytearray(path.read_bytes())
    data[500] ^= 255
    path.write_bytes(data)
    with pytest.raises(ValueError, match="damaged"):
        arrays.read_npz(path)


@pytest.mark.parametrize("name", ["a.npy", "a.npz"])
def test_no_two_threads_parse_at_once(tmp_path, monkeypatch, name):
    """Python before 3.11.8 may fail if they do."""
    path = tmp_path / name
    (np.savez if name.endswith("z") else np.save)(path, np.zeros(3))
    inside, most = 0, 0
    parse = ast.literal_eval

    def slow(header):
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        time.sleep(0.01)
        inside -= 1
        return parse(header)

    monkeypatch.setattr(ast, "literal_eval", slow)
    read = arrays.read_npz if name.endswith("z") else arrays.read_npy
    threads = [threading.Thread(target=read, args=(path,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1  # and not 0: it was parsed here
