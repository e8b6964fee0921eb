"""The classes of a data set."""

import pytest

from data_pipeline.annotators.segments import Annotation, Segment
from data_pipeline.layout import classes
from svtas_jax.errors import InputError


def annotations(*labels):
    segments = tuple(Segment(k, i, i + 1, f"line {i}") for i, k in enumerate(labels))
    return (Annotation("a", "frames", segments, "a.txt"),)


def test_background_comes_first_then_the_alphabet():
    names, found = classes.order_classes(annotations("put", "Add", "SIL"), (), "")
    assert names == ("SIL", "Add", "put")
    assert not found


def test_the_filling_class_is_one():
    names, _ = classes.order_classes(annotations("put"), (), "nothing here")
    assert names == ("nothing here", "put")


@pytest.mark.parametrize(
    "labels, alike",
    [
        (("take cup",) * 20 + ("take cub",), True),
        (("take cup", "Take  Cup"), True),
        (("open_door", "open door"), True),
        (("take cup",) * 5 + ("take cap",) * 5, False),  # both are frequent
        (("step 1",) * 20 + ("step 2",), False),
        (("take", "put"), False),
    ],
)
def test_names_that_may_be_one_class_are_said(labels, alike):
    cleaned = classes.rename(annotations(*labels), {})
    _, found = classes.order_classes(cleaned, (), "")
    assert [f.kind for f in found] == ["similar classes"] * alike


def test_a_class_that_was_not_given_is_an_error_with_a_hint():
    _, found = classes.order_classes(annotations("put", "tke"), ("take", "put"), "")
    assert [(f.severity, f.kind, f.where) for f in found] == [
        ("error", "unknown class", "line 1"),
        ("warning", "unused class", "classes"),
    ]
    assert "did you mean 'take'?" in found[0].text


def test_classes_are_renamed_and_blanks_made_one():
    (found,) = classes.rename(annotations(" put  down ", "tke"), {"tke": "take"})
    assert [s.label for s in found.segments] == ["put down", "take"]


@pytest.mark.parametrize("entry", ["a", "=b", "a="])
def test_a_wrong_rename_is_said(entry):
    with pytest.raises(InputError, match="is not OLD=NEW"):
        classes.parse_renames([entry])


def test_renaming_what_is_not_there_is_an_error():
    with pytest.raises(InputError, match="did you mean 'take'"):
        classes.rename(annotations("take"), {"tak": "put"})


def test_classes_are_read_from_a_list_or_a_mapping(tmp_path):
    assert classes.read_classes("take, put") == ("take", "put")
    (tmp_path / "mapping.txt").write_text("1 put\n0 take\n")
    assert classes.read_classes(str(tmp_path / "mapping.txt")) == ("take", "put")


@pytest.mark.parametrize("value", ["a,a", "a,,b"])
def test_a_wrong_list_of_classes_is_said(value):
    with pytest.raises(InputError, match="--classes="):
        classes.read_classes(value)


def test_a_filling_class_must_be_given():
    with pytest.raises(InputError, match="--fill=idle"):
        classes.order_classes(annotations("put"), ("put",), "idle")
