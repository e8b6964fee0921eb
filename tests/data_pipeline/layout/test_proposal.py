"""Proposed settings: valid for any data, and from what the data show."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline.layout.proposal import CLIP_STEPS, Labelled, propose
from svtas_jax import recipes
from svtas_jax.config import default_config
from svtas_jax.config_rules import validate_config

GREY = ((0.5,) * 3, (0.2,) * 3)


def labelled(lengths, *, fps=25.0, height=720, width=1280, name="a"):
    labels = np.repeat(np.arange(len(lengths)) % 2 + 1, lengths).astype(np.int32)
    return Labelled(name, labels, fps, height, width)


def settings_of(videos, *, num_train=9, crop=0, **groups):
    found = propose(
        videos,
        ("background", "take", "put"),
        ("background",),
        num_train=num_train,
        colours=GREY,
        crop=crop,
        **groups,
    )
    return {setting.field: setting.value for setting in found}


def config_of(settings):
    config = default_config()
    for field, value in settings.items():
        section, name = field.split(".")
        config[section][name] = str(value) if name == "frame_cache" else value
    return config


@given(
    st.lists(st.integers(1, 3000), min_size=1, max_size=20),
    st.floats(1, 240),
    st.integers(32, 4320),
    st.integers(32, 4320),
    st.integers(1, 3000),
    st.sampled_from([0, 32, 96, 224]),
    st.sampled_from(["", "imagenet"]),
)
def test_any_data_give_a_valid_config(
    lengths, fps, height, width, num_train, crop, init_from
):
    video = labelled(lengths, fps=fps, height=height, width=width)
    config = config_of(
        settings_of([video], num_train=num_train, crop=crop, init_from=init_from)
    )
    validate_config(config)
    assert config.data.crop <= min(config.data.resize)
    assert config.data.clip_frames == CLIP_STEPS * config.data.frame_stride
    assert fps / config.data.frame_stride >= 2 or config.data.frame_stride == 1


def test_a_short_action_has_eight_steps_and_a_long_one_two_a_second():
    assert settings_of([labelled([48] * 10)])["data.frame_stride"] == 6
    assert settings_of([labelled([2000] * 10)])["data.frame_stride"] == 12


def test_the_background_does_not_set_the_stride():
    flicker = Labelled("a", np.tile([0, 1], [50]).astype(np.int32), 25.0, 720, 1280)
    long = np.repeat([0, 1, 0, 2], [2, 400, 2, 400]).astype(np.int32)
    assert settings_of([flicker])["data.frame_stride"] == 1
    assert settings_of([Labelled("a", long, 25.0, 720, 1280)])["data.frame_stride"] > 9


def test_pictures_keep_their_shape():
    upright = settings_of([labelled([50], height=1280, width=720)])
    assert upright["data.resize"] == (455, 256)
    assert upright["data.crop"] == 224
    small = settings_of([labelled([50], height=144, width=192)])
    assert small["data.resize"] == (128, 171)


def test_large_data_are_not_cached():
    assert "data.frame_cache" in settings_of([labelled([5000])])
    assert "data.frame_cache" not in settings_of([labelled([100] * 50_000)])


def test_from_weights_the_recipe_of_imagenet_is_proposed():
    """All of it, and by its values: nothing is forgotten when the recipe changes."""
    recipe = recipes.plus_from_imagenet(default_config())
    recipe.train.init_from = "a.npz"
    found = config_of(settings_of([labelled([90] * 9)] * 12, init_from="a.npz"))
    for section in ("model", "data", "train"):
        for name, value in recipe[section].items():
            if value != default_config()[section][name]:
                assert found[section][name] == value, f"{section}.{name}"
    assert found.model.image_width == 1 and found.model.image_stages == 7
    assert found.train.lr_milestones == default_config().train.lr_milestones


def test_a_training_from_weights_takes_500_steps_if_epochs_allow():
    one = labelled([160] * 8)  # frames, of 25 a second: four chunks of 32 x 12
    epochs = [
        settings_of([one] * n, num_train=n * 3 // 4, init_from="a")["train.num_epochs"]
        for n in (4, 40, 400)
    ]
    assert epochs == [100, 42, 20]


def test_groups_that_are_tested_whole_are_held_out_whole():
    field, group = "train.validation_group", r"(S\d+)"
    assert field not in settings_of([labelled([9])])
    for num_train_groups, value in ((1, ""), (2, group), (9, group)):
        found = settings_of(
            [labelled([9])], group=group, num_train_groups=num_train_groups
        )
        assert found[field] == value
