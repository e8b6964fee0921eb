import numpy as np

from svtas_jax.pages import colours


def test_distinct_colours_differ_for_red_green_blind_people_too():
    for num_colours, least in ((0, None), (1, None), (11, 15), (20, 12), (48, 5)):
        found = colours.distinct_colours(num_colours)
        assert found.shape == (num_colours, 3)
        if least is None:
            continue
        taken = np.concatenate([found, [colours.GREY, colours.WHITE]])
        seen = colours.perceived(taken)
        apart = np.array([colours.least_distance(seen, one) for one in seen])
        assert apart[~np.eye(len(taken), dtype=bool)].min() > least


def test_greys_look_the_same_to_everybody():
    seen = colours.perceived(np.array([(0, 0, 0), (128, 128, 128), (255, 255, 255)]))
    np.testing.assert_allclose(seen, seen[:, :1].repeat(3, axis=1), atol=1.0)


def test_red_and_green_look_alike_to_the_red_green_blind():
    red, green = colours.perceived(np.array([(176, 100, 0), (110, 130, 0)]))
    apart = np.linalg.norm(red - green, axis=-1)
    assert apart[1] < 0.6 * apart[0]


def test_a_new_class_changes_no_colour_of_the_others():
    few, many = colours.distinct_colours(9), colours.distinct_colours(30)
    np.testing.assert_array_equal(few, many[:9])
    names = ["pour", "background", "stir"]
    found = colours.css_colours(names)
    assert found == ("#e69f00", "#cdcdcd", "#56b4e9")
    assert colours.css_colours([*names, "cut"])[:3] == found
