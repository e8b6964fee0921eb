"""Every field has a rule; every config in configs/ obeys them and builds."""

import importlib.util
import pathlib

import jax
import pytest

import svtas_jax
from data_pipeline.chunks import blank_chunk
from svtas_jax.config import default_config, stream_spec, with_clip_frames
from svtas_jax.config_rules import validate_config
from svtas_jax.errors import InputError
from svtas_jax.models import build_model
from svtas_jax.run_config import check_resumable, load_config
from svtas_jax.streaming import segment_chunk

CONFIGS = sorted(
    (pathlib.Path(svtas_jax.__file__).parent.parent / "configs").glob("*.py")
)


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config()


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_config_is_valid(path):
    validate_config(load(path))


def _that_builds(path):
    """The recipe of the plus configs changes models of all data sets alike."""
    is_alike = "_plus" in path.stem and not path.stem.startswith("gtea")
    marks = [pytest.mark.slow] if is_alike else []
    return pytest.param(path, id=path.stem, marks=marks)


@pytest.mark.parametrize("path", [_that_builds(path) for path in CONFIGS])
def test_a_config_s_model_builds(path):
    config = load(path)
    config = with_clip_frames(config, [300])
    model = build_model(config, tuple("abcde"))
    spec = stream_spec(config)
    width = 24 if config.data.features else 0
    chunk = blank_chunk(1, spec, config.data.crop, feature_width=width)
    state = model.initial_state(1)
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), state, chunk))
    _, logits = jax.eval_shape(
        lambda v: segment_chunk(v, state, chunk, model=model), variables
    )
    assert logits.shape == (1, spec.clip_steps, 5)


def test_the_better_recipe_changes_no_other_field():
    """What it is compared with is the same model, on the same chunks."""
    for path in CONFIGS:
        if "_plus" not in path.stem:
            continue
        base = load(path.with_name(path.name.replace("_plus", "")))
        better, base = load(path).to_dict(), base.to_dict()
        assert (
            better["data"] | {"random_start": False, "colour": 0.0, "zoom": 0.0}
            == (base["data"])
        )
        paper = {"head_norm": "batch", "image_norm": "batch", "image_dropout": 0.0}
        assert better["model"] | paper == base["model"]
        assert better["train"] != base["train"] and better["eval"] == base["eval"]


def test_there_are_configs():
    names = {path.stem for path in CONFIGS}
    for dataset in ("gtea", "50salads", "egtea"):
        for system in ("sete", "mete", "transeger"):
            assert f"{dataset}_{system}" in names


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("data.clip_frames", 130, "clip_frames=132|clip_frames=128"),
        ("data.max_length_gap", 1.5, "between 0 and 1"),
        ("data.max_length_gap", -0.1, "between 0 and 1"),
        ("data.frame_stride", 0, "at least 1"),
        ("data.crop", 300, "larger than config.data.resize"),
        ("data.resize", (256,), "must be 2 positive"),
        ("data.std", (0.1, 0.0, 0.1), "must be 3 positive"),
        ("data.layout", "nested", "'flat', 'breakfast'"),
        ("data.colour", 1.0, r"\[0, 1\)"),
        ("data.zoom", -0.1, "between 0 and 1"),
        ("data.erase", 1.5, "share of the videos"),
        ("model.system", "seti", "'sete', 'mete', 'transeger'"),
        ("model.dtype", "float16", "'float32', 'bfloat16'"),
        ("model.text_heads", 7, "heads split the width evenly"),
        ("model.prompt_parts", (), "each once; for no prompt"),
        ("model.feedback", "soft", "needs a Transeger with prompts"),
        ("model.feedback", "hard", "'labels', 'soft'"),
        ("model.prompt_parts", ("name", "nam"), "must be some of"),
        ("model.prompt_parts", ("name", "history"), "only Transeger's prompts"),
        ("model.head_norm", "group", "'batch', 'layer'"),
        ("model.image_norm", "frozen", "fresh weights have none.*init_from"),
        ("model.image_norm", "group", "'batch', 'frozen'"),
        ("train.gradient_chunks", 0, "at least 1"),
        ("train.gradient_chunks", 4, "chunks_per_call=4"),
        ("model.joint_dropout", 1.0, r"\[0, 1\)"),
        ("train.learning_rate", 0.0, "positive number"),
        ("train.validation_share", 1.0, "strictly between 0 and 1"),
        ("train.validation_group", "(S", r"no regular expression.*'\(S\\d\+\)'"),
        ("train.batch_size", 0, "at least 1"),
        ("train.optimizer", "sgd", "'adam', 'adamw'"),
        ("train.schedule", "linear", "'steps', 'cosine'"),
        ("train.warmup_epochs", -1.0, "at least 0"),
        ("train.warmup_epochs", 51.0, "goes on after epoch 50.*shorter warm-up"),
        ("train.clip_norm", -1.0, "at least 0"),
        ("train.label_smoothing", 1.0, r"\[0, 1\)"),
        ("train.focal_gamma", -0.5, "at least 0"),
        ("train.logit_adjustment", -1.0, "at least 0"),
        ("train.boundary_smoothing", -1, "at least 0"),
        ("train.ema", 1.0, r"\[0, 1\).*such as 0.99"),
        ("train.own_labels", 0.5, "'sete' with config.model.prompt='learned' does not"),
        ("train.own_labels_from", -1, "at least 0"),
        ("train.label_noise", 1.5, "between 0 and 1"),
        ("eval.batch_size", 0, "at least 1"),
        ("seed", -1, "at least 0"),
    ],
)
def test_bad_value_names_field_and_rule(field, value, said):
    config = default_config()
    with config.unlocked():
        config.update_from_flattened_dict({field: value})
    with pytest.raises(InputError, match=said) as error:
        validate_config(config)
    assert f"config.{field}=" in str(error.value)


@pytest.mark.parametrize("name", ["colour", "zoom", "erase"])
def test_features_have_no_colours(name):
    config = default_config()
    config.data.features, config.model.backbone = "features", "features"
    config.data[name] = 0.5
    with pytest.raises(InputError, match=f"config.data.{name}=0.5 changes pictures"):
        validate_config(config)


def test_one_chunk_has_no_borders_to_move():
    config = default_config()
    config.data.update(features="features", clip_frames=0, random_start=True)
    config.model.backbone = "features"
    with pytest.raises(InputError, match="random_start=True.*there are none"):
        validate_config(config)


def test_stored_config_comes_back():
    config = default_config()
    config.data.resize = (64, 80)
    stored = config.to_dict()
    stored["data"]["resize"] = [64, 80]  # as JSON gives it back
    assert load_config(None, stored) == config


def test_other_model_than_the_run_is_refused():
    stored = default_config().to_dict()
    given = default_config()
    given.model.features = 32
    with pytest.raises(InputError, match="config.model.features=32.*64"):
        load_config(given, stored)
    with pytest.raises(InputError, match="the run began with 64"):
        check_resumable(given, stored)


def test_a_cosine_reaches_its_end_where_the_run_began_to_take_it():
    stored, given = default_config(), default_config()
    given.train.num_epochs = 60
    check_resumable(given, stored.to_dict())
    for config in (stored, given):
        config.train.schedule = "cosine"
    with pytest.raises(InputError, match="num_epochs=60, but the run began with 50"):
        check_resumable(given, stored.to_dict())


def test_a_rate_has_risen_before_it_falls():
    config = default_config()
    config.train.update(warmup_epochs=5.0, lr_milestones=(20, 4))
    with pytest.raises(InputError, match="after epoch 4, see .*lr_milestones="):
        validate_config(config)
    config.train.schedule = "cosine"  # which has no milestones
    validate_config(config)


def test_other_pixels_than_the_run_saw_are_refused():
    given = default_config()
    given.data.update(mean=(0.5, 0.5, 0.5), split=2, crop=192)
    with pytest.raises(InputError, match=r"config.data.mean=.*0\.551"):
        load_config(given, default_config().to_dict())


def test_config_of_another_version_is_named():
    stored = default_config().to_dict()
    stored["model"]["depth"] = 3
    with pytest.raises(InputError, match="another version.*depth"):
        load_config(None, stored)


def test_a_run_may_grow_longer():
    longer = default_config()
    longer.train.num_epochs = 99
    check_resumable(longer, default_config().to_dict())
