"""Older runs go on to be read; of later ones one message says who wrote them."""

import json
import pathlib

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

import svtas_jax
from data_pipeline.prepared import index as prepared_index
from svtas_jax.checkpoints import resume, store
from svtas_jax.checkpoints.formats import FORMAT
from svtas_jax.config import default_config
from svtas_jax.errors import InputError
from svtas_jax.run_config import check_resumable, load_config
from svtas_jax.runtime import provenance
from svtas_jax.runtime.origin import Origin, compared, origin_of
from svtas_jax.training import loop

COMMIT = "0123456789abcdef0123456789abcdef01234567-dirty"
LATER = {"format": 2, "versions": {"svtas_jax": "0.9.0"}, "commit": COMMIT}
SAYS = r"format 2 by svtas_jax 0.9.0 \(commit 0123456789ab-dirty\); this is svtas_jax "
SAYS += svtas_jax.__version__.replace(".", r"\.")
VARIABLES = {"params": {"a": np.arange(3, dtype=np.float32)}}


def save(workdir, **facts):
    """Writes a checkpoint whose meta then says something else."""
    meta = store.Meta({}, ("take",), 15.0, 4, 1, provenance.versions())
    store.save_model(str(workdir), VARIABLES, meta)
    change(workdir, lambda stored: stored | facts)


def change(workdir, edit):
    """Edits what all checkpoints of a run say about themselves."""
    paths = list(pathlib.Path(workdir).glob("*/*/meta/metadata"))
    assert paths
    for path in paths:
        path.write_text(json.dumps(edit(json.loads(path.read_text()))))


def as_before(stored):
    """What commit b206b8b wrote."""
    return {k: v for k, v in stored.items() if k not in ("format", "commit")}


def check_readable(workdir):
    template = jax.tree.map(np.zeros_like, VARIABLES)
    found = store.restore_model(str(workdir), "best", template)
    jax.tree.map(np.testing.assert_array_equal, found, VARIABLES)


def test_a_checkpoint_says_who_wrote_it(tmp_path):
    save(tmp_path)
    meta = store.read_meta(str(tmp_path), "best")
    assert (meta.format, meta.commit) == (FORMAT, provenance.git_commit())
    here = Origin(FORMAT, svtas_jax.__version__, provenance.git_commit())
    assert meta.origin == here
    check_readable(tmp_path)


def test_a_checkpoint_without_a_format_is_read(tmp_path):
    save(tmp_path)
    change(tmp_path, as_before)
    meta = store.read_meta(str(tmp_path), "best")
    assert meta.origin == Origin(1, svtas_jax.__version__, None)
    check_readable(tmp_path)


def test_what_a_later_version_says_besides_does_not_matter(tmp_path):
    save(tmp_path, mood="good")
    assert store.read_meta(str(tmp_path), "best").class_names == ("take",)
    check_readable(tmp_path)


@pytest.mark.parametrize(
    ("names", "is_said"), [(("take",), False), (("put",), True), (("a", "b"), False)]
)
def test_weights_of_other_classes_are_warned_of(tmp_path, caplog, names, is_said):
    save(tmp_path)
    store.warn_of_other_classes(str(tmp_path), names)
    said = "its weights for class 'take' become the initial weights for 'put'"
    assert (said in caplog.text) == is_said
    assert ("was trained on other classes" in caplog.text) == is_said


def test_a_later_format_is_named_with_its_program(tmp_path):
    save(tmp_path, **LATER)
    for read in (
        lambda: store.read_meta(str(tmp_path), "best"),
        lambda: store.initialise_from(str(tmp_path), VARIABLES),
        lambda: check_readable(tmp_path),
    ):
        with pytest.raises(
            InputError, match=f"checkpoints/4 was .* {SAYS}.*reads format 1"
        ):
            read()


def test_another_layout_is_named_with_its_program(tmp_path):
    meta = {"versions": {"svtas_jax": "0.0.9"}}
    with store.open_manager(str(tmp_path)) as manager:
        items = {"model": ocp.args.StandardSave(VARIABLES)}
        items["meta"] = ocp.args.JsonSave(meta)
        manager.save(4, args=ocp.args.Composite(**items))
    with pytest.raises(InputError, match=r"by svtas_jax 0.0.9 \(commit unknown\);"):
        check_readable(tmp_path)


def test_a_stored_config_may_lack_fields_that_were_added_since():
    stored = json.loads(json.dumps(default_config().to_dict()))
    del stored["data"]["frame_cache"], stored["train"]["remat"], stored["eval"]
    assert load_config(None, stored) == default_config()
    check_resumable(default_config(), stored)
    given = default_config()
    given.train.weight_decay = 0.5
    del stored["train"]["weight_decay"]
    with pytest.raises(InputError, match="weight_decay=0.5, but the run began with"):
        check_resumable(given, stored)


@pytest.mark.parametrize(
    ("stored", "told"),
    [
        ({"data": {"taste": 1}}, "with config.data.taste, which this version"),
        ({"colour": {"x": 1}}, "with config.colour, which this version"),
        (
            {"data": {"crop": "x"}},
            "with a value that this version does not know: .*crop.*",
        ),
        ({"data": 3}, "with a value that this version does not know: "),
    ],
)
def test_what_is_not_known_is_named_with_its_program(stored, told):
    with pytest.raises(InputError, match=f"another version.*{told}.*{SAYS}"):
        load_config(None, stored, origin_of(LATER))


def test_an_unknown_origin_is_said():
    text = compared(origin_of({}), 1)
    assert "format 1 by svtas_jax of an unknown version (commit unknown)" in text


@pytest.mark.usefixtures("tiny_commands")
def test_a_run_resumes_from_before_and_not_from_later(folder, tiny, tmp_path):
    config = tiny.config("sete")
    for name in ("a", "b", "c"):
        folder.add(name, 16, subsets=("train",))
    config.data.update(root=str(folder.root), dataset="tiny")
    config.train.num_epochs = 1
    before = loop.train(config, str(tmp_path))
    change(tmp_path, as_before)
    config.train.num_epochs = 2
    assert int(loop.train(config, str(tmp_path)).step) == 2 * int(before.step)
    change(tmp_path, lambda stored: stored | LATER)
    with pytest.raises(InputError, match=SAYS):
        loop.train(config, str(tmp_path))
    change(tmp_path, lambda stored: stored | LATER | {"format": 1})
    candidates = resume.newest(str(tmp_path))
    for path in tmp_path.glob("checkpoints/*/place/metadata"):
        place = json.loads(path.read_text())
        path.write_text(json.dumps(place | {"data": {"next_index": 3}}))
    with pytest.raises(InputError, match=r"position in the data.* by svtas_jax 0.9.0"):
        loop.train(config, str(tmp_path))
    for path in tmp_path.glob("checkpoints/*/place/metadata"):
        path.write_text("{")
    message = rf"none of the {len(candidates)} checkpoints.*by svtas_jax 0.9.0"
    with pytest.raises(InputError, match=message):
        loop.train(config, str(tmp_path))


def test_prepared_data_of_another_format_are_named_with_their_program(tmp_path):
    index = prepared_index.Index("jpeg", 95, (8, 8), 1, ("take",), {}, {})
    prepared_index.write_index(tmp_path, index)
    path = tmp_path / prepared_index.INDEX_FILE
    assert prepared_index.read_index(tmp_path) == index
    path.write_text(json.dumps(json.loads(path.read_text()) | LATER))
    with pytest.raises(InputError, match=f"was prepared by another version.*{SAYS}"):
        prepared_index.read_index(tmp_path)
