"""What classes look like: any set of names, and no two alike."""

import hypothesis
import hypothesis.strategies as st

from data_pipeline import known
from data_pipeline.demo.scene import kind_of
from data_pipeline.rendered.vocabulary import (
    IDLE,
    IDLE_CLASSES,
    MOTIONS,
    read_vocabulary,
)


def test_the_demos_classes_are_the_demos_motions():
    classes = known._NAMES["gtea"]
    vocabulary = read_vocabulary(classes, ("background",))
    motions = {name: work.motion for name, work in vocabulary.works.items()}
    assert motions == {name: name for name in classes}
    assert not vocabulary.colours  # the scene decides on the objects


def test_salads_share_motions_and_objects():
    classes = known._NAMES["50salads"]
    vocabulary = read_vocabulary(classes, ("action_start", "action_end"))
    works = vocabulary.works
    assert works["cut_tomato"].motion == works["cut_cheese"].motion == "cut"
    assert works["cut_tomato"].item == works["place_tomato_into_bowl"].item
    assert works["cut_tomato"].item != works["cut_cheese"].item
    assert works["add_oil"].motion == works["add_vinegar"].motion == "pour"
    assert works["mix_dressing"].item == works["add_dressing"].item
    assert works["action_start"].motion == works["action_end"].motion == IDLE
    assert len(set(vocabulary.colours.values())) == len(vocabulary.colours) == 11


def test_a_noun_is_the_same_thing_in_most_of_its_classes():
    classes = ("cut_fruit", "put_fruit2bowl", "peel_fruit", "stir_fruit")
    items = [work.item for work in read_vocabulary(classes, ()).works.values()]
    assert items[0] == items[1] == items[2] == "bread:fruit"
    assert items[3] in ("cup:fruit", "jar:fruit")  # which no fruit on a board is


names = st.lists(st.text("abcut_openpour 0é", min_size=1), unique=True, max_size=30)


@hypothesis.given(names)
def test_any_names_look_different(classes):
    idle = [name for name in classes if name in IDLE_CLASSES]
    vocabulary = read_vocabulary(classes, idle)
    busy = [work for work in vocabulary.works.values() if work.motion != IDLE]
    assert set(vocabulary.works) == set(classes)
    assert len(set(busy)) == len(busy) == len(classes) - len(idle)
    for work in busy:
        assert work.kinds == MOTIONS[work.motion]
        assert not work.item or kind_of(work.item) in work.kinds
        assert not work.item or work.item in vocabulary.colours
