"""All settings of the program, with their defaults and rules.

A file in `configs/` starts from `default_config()` and sets what differs. A config file
derives no value from another, so every field can be overridden on the command line:
`--config.data.split=2`.
"""

import math
from collections.abc import Iterable

import ml_collections

from svtas_jax.errors import InputError
from svtas_jax.structs import StreamSpec

SYSTEMS = ("sete", "mete", "transeger")
BACKBONES = ("mobilenet_tsm", "i3d", "r2plus1d", "vit", "features")
JOINTS = ("memory_tcn", "fc", "transformer")
PROMPTS = ("learned", "fixed", "none")
PROMPT_PARTS = ("ordinal", "count", "position", "context", "name")
DEFAULT_LENGTH_GAP = 0.02
HEADS = ("memory_tcn", "ms_tcn", "tcn_3d", "asformer", "gru", "gtrm")
HEAD_NORMS = ("batch", "layer")


def default_config() -> ml_collections.ConfigDict:
    """Returns SETE on GTEA, with the values of the SVTAS paper and its public code."""
    config = ml_collections.ConfigDict()
    config.seed = 0
    config.data = _data_defaults()
    config.model = _model_defaults()
    config.train = _train_defaults()
    config.eval = _eval_defaults()
    return config


def _data_defaults() -> ml_collections.ConfigDict:
    data = ml_collections.ConfigDict()
    data.dataset = "gtea"  # name in messages; "demo" is rendered if it does not exist
    data.root = "data/gtea"  # holds Videos/, groundTruth/, mapping.txt, splits/; or
    # the output of data_pipeline.tfds_builder
    data.features = ""  # folder below the root with NAME.npy, read instead of videos
    data.layout = "flat"  # "flat": Videos/NAME.mp4; "breakfast": PERSON/CAMERA/...avi
    data.split = 1  # splits/{train,test}.splitK.bundle (or _splitK.txt)
    data.clip_frames = 128  # raw frames in a chunk; 0: a chunk is a whole video
    data.frame_stride = 4  # every frame_stride-th frame is decoded
    data.max_length_gap = DEFAULT_LENGTH_GAP  # largest difference in length between
    # labels and video, as a share of the longer one, which is cut. Up to frame_stride
    # frames are always allowed; more than one chunk only by a value above the default
    data.resize = (256, 320)  # height and width of a resized frame (antialiased)
    data.crop = 224  # side of a square crop: random in training, else in the centre
    data.mean = (0.551, 0.424, 0.179)  # RGB mean of the data, in 0..1
    data.std = (0.133, 0.141, 0.124)  # RGB standard deviation of the data
    data.augment = "video"  # one random crop and flip per "video", or per "frame" (as
    # in SVTAS's public code); or "none"
    data.frame_cache = ""  # folder for decoded, resized frames, which epochs after the
    # first read (H * W * 3 bytes per frame); "": every epoch decodes the videos
    data.num_workers = 0  # decoding processes; 0 decodes in threads of this process
    return data


def _model_defaults() -> ml_collections.ConfigDict:
    model = ml_collections.ConfigDict()
    model.system = "sete"  # "sete", "mete" or "transeger"
    model.backbone = "mobilenet_tsm"  # or "i3d", "r2plus1d", "vit"; "features" reads
    # data.features instead of videos
    model.head = "memory_tcn"  # of SETE and METE: or "ms_tcn", "tcn_3d", "asformer",
    # "gru", "gtrm"
    model.causal = False  # True: a step's scores depend on no later step, so that each
    # frame is answered at once; a chunk is then only what training cuts a video into
    model.image_width = 1.0  # multiplies the backbone's channels
    model.image_layers = 12  # blocks of ViT
    model.image_stages = 7  # of MobileNetV2 (ResNets have 4); fewer learn faster from
    # small images
    model.features = 64  # width of the temporal branch, of image and text features
    model.num_layers = 4  # layers of the head, in each of its stages
    model.num_stages = 1  # stages of the head, each refining the last (TCNs, ASFormer)
    model.head_norm = "batch"  # of the TCN heads and the TCN joint net, over the batch;
    # "layer": over the channels of each step alone, so no batch statistics in the head
    model.dropout = 0.5  # of the heads that have dropout: ASFormer, GRU, GTRM
    model.channel_masking = 0.3  # share of the features that ASFormer drops in training
    model.joint = "memory_tcn"  # Transeger: "memory_tcn", "fc" or "transformer"
    model.joint_features = 128  # width of Transeger's joint net
    model.joint_layers = 3  # layers of the transformer joint net
    model.joint_heads = 8  # heads of the transformer joint net
    model.joint_dropout = 0.1  # dropout of the transformer joint net
    model.joint_positions = "learned"  # of the transformer joint net; or sinusoids:
    # "fixed" of the step, "fixed_by_row" of the batch row (SVTAS's public code)
    model.prompt = "learned"  # "learned" or "fixed"; with "none" Transeger ignores the
    # last chunk's labels
    model.prompt_parts = PROMPT_PARTS  # parts of a prompt, see `models.prompts`
    model.history_runs = 6  # runs of labels that the prompt part "history" names; it is
    # no part of the paper's prompts: the actions that ended before the last chunk
    model.prompt_len = 50  # tokens in a prompt, padded or cut
    model.num_context = 8  # trainable vectors before the class name (learned prompt)
    model.shared_context = False  # one context for all classes
    model.class_position = "end"  # "end", "middle" or "front"
    model.text_width = 512  # width of the text encoder
    model.text_layers = 3
    model.text_heads = 8
    model.train_logit_scale = False  # train METE's temperature (public code: fixed)
    model.norm_momentum = 0.1  # weight of a chunk in the running batch statistics;
    # models trained for a short time evaluate better with less, such as 0.02
    model.reference_padding = False  # True: padded steps enter batch statistics and
    # shift into their neighbours, as in SVTAS's public code
    model.dtype = "float32"  # of computations, or "bfloat16"; parameters are float32
    return model


def _train_defaults() -> ml_collections.ConfigDict:
    train = ml_collections.ConfigDict()
    train.batch_size = 2  # videos in a batch
    train.num_epochs = 50
    train.learning_rate = 5e-4
    train.weight_decay = 1e-4  # L2 added to the gradient of every parameter
    train.lr_milestones = (50,)  # epochs after which lr_decay multiplies the rate
    train.lr_decay = 0.1
    train.smooth_weight = 0.15  # weight of the truncated smoothing loss
    train.clip_weight = 1.0  # weight of METE's contrastive loss
    train.chunks_per_step = 0  # chunks per slot in an optimizer step, with videos back
    # to back; 0: a step is `batch_size` whole videos, as in the paper
    train.chunks_per_call = 1  # chunks per call of the device; does not change results
    train.gradient_chunks = 1  # consecutive chunks of a slot through whose memory the
    # gradient flows (truncated backpropagation through time); takes their memory
    train.max_damaged_share = 0.05  # largest share of videos that may be damaged or
    # missing in training; they are skipped with a warning
    train.max_bad_chunks = 0  # largest number of chunks whose loss or gradient may be
    # not finite; they are skipped with a warning
    train.split_from = 0  # weight arrays with at least this many elements are split
    # over the devices; 0: every device holds all
    train.remat = "none"  # what the backward pass recomputes of the forward pass:
    # "none"; "products" and "blocks" save memory and take longer
    train.selection = "validation"  # videos that select the best checkpoint:
    # "validation" videos, held out of the training split; or "test", as in the paper
    train.validation_share = 0.2  # share of the training videos held out
    train.eval_every_epochs = 1
    train.save_every_steps = 50  # between evaluations; 0: only after each of them
    train.log_every_steps = 10
    train.init_from = ""  # workdir of a run whose best weights are the initial ones
    return train


def _eval_defaults() -> ml_collections.ConfigDict:
    evaluate = ml_collections.ConfigDict()
    evaluate.batch_size = 1  # videos streamed in parallel; does not change results
    evaluate.background = ("background", "None")  # classes that segment metrics ignore
    return evaluate


def stream_spec(config: ml_collections.ConfigDict) -> StreamSpec:
    """Returns how `config.data` cuts a video into windows."""
    return StreamSpec(config.data.clip_frames, config.data.frame_stride)


def validate_config(config: ml_collections.ConfigDict) -> None:
    """Checks ranges and relations, which ml_collections does not check.

    Raises:
        InputError: names the first field that breaks its rule, and a fix.
    """
    if config.seed < 0:
        raise InputError(f"config.seed={config.seed} must be at least 0.")
    _check_data(config.data)
    _check_model(config.model)
    _check_train(config.train)
    _check_features(config.data, config.model)
    _check_at_least(config.eval, "eval", batch_size=1)


def _check_data(data: ml_collections.ConfigDict) -> None:
    _check_choice(data, "data", layout=("flat", "breakfast"))
    _check_choice(data, "data", augment=("video", "frame", "none"))
    _check_at_least(data, "data", frame_stride=1, clip_frames=0, split=1, crop=8)
    _check_at_least(data, "data", num_workers=0)
    if not 0 <= data.max_length_gap <= 1:
        raise InputError(
            f"config.data.max_length_gap={data.max_length_gap} must lie between 0 and "
            "1: it is a share of the labels' or the video's length."
        )
    if data.clip_frames % data.frame_stride:
        nearest = (
            max(1, round(data.clip_frames / data.frame_stride)) * data.frame_stride
        )
        raise InputError(
            f"config.data.clip_frames={data.clip_frames} is not a multiple of "
            f"config.data.frame_stride={data.frame_stride}; "
            f"try --config.data.clip_frames={nearest}."
        )
    for name, length in (("resize", 2), ("mean", 3), ("std", 3)):
        value = data[name]
        if len(value) != length or not all(v > 0 for v in value):
            raise InputError(
                f"config.data.{name}={value} must be {length} positive numbers."
            )
    if data.crop > min(data.resize):
        raise InputError(
            f"config.data.crop={data.crop} is larger than config.data.resize="
            f"{data.resize}; try --config.data.crop={min(data.resize)}."
        )


def _check_model(model: ml_collections.ConfigDict) -> None:
    _check_choice(model, "model", system=SYSTEMS, dtype=("float32", "bfloat16"))
    _check_choice(model, "model", backbone=BACKBONES, head=HEADS)
    _check_choice(model, "model", joint=JOINTS)
    _check_prompt(model)
    _check_causal(model)
    _check_head_norm(model)
    positions = ("learned", "fixed", "fixed_by_row")
    _check_choice(model, "model", joint_positions=positions)
    _check_choice(model, "model", class_position=("end", "middle", "front"))
    _check_choice(model, "model", image_stages=tuple(range(1, 8)))
    _check_at_least(model, "model", features=1, num_layers=1, num_stages=1)
    _check_at_least(model, "model", joint_features=1, joint_layers=1, joint_heads=1)
    _check_at_least(model, "model", prompt_len=8, num_context=1)
    _check_at_least(model, "model", text_width=1, text_layers=1, text_heads=1)
    _check_at_least(model, "model", image_layers=1)
    _check_positive(model, "model", "image_width")
    if not 0 < model.norm_momentum <= 1:
        raise InputError(
            f"config.model.norm_momentum={model.norm_momentum} must lie in (0, 1]."
        )
    for name in ("joint_dropout", "dropout", "channel_masking"):
        if not 0 <= model[name] < 1:
            raise InputError(f"config.model.{name}={model[name]} must lie in [0, 1).")
    if model.head == "tcn_3d" and model.backbone == "features":
        raise InputError(
            "config.model.head='tcn_3d' convolves images and cannot read features; "
            "use --config.model.head=ms_tcn, or an image backbone."
        )
    for width, heads in (("text_width", "text_heads"), ("features", "joint_heads")):
        if width == "features" and model.joint != "transformer":
            continue
        if model[width] % model[heads]:
            raise InputError(
                f"config.model.{width}={model[width]} is not a multiple of "
                f"config.model.{heads}={model[heads]}; heads split the width evenly, "
                f"try --config.model.{heads}={math.gcd(model[width], model[heads])}."
            )


def _check_head_norm(model) -> None:
    _check_choice(model, "model", head_norm=HEAD_NORMS)
    name = "joint" if model.system == "transeger" else "head"
    if model.head_norm != "batch" and "tcn" not in model[name]:
        raise InputError(
            f"config.model.head_norm={model.head_norm!r} has no effect on "
            f"config.model.{name}={model[name]!r}, which has no batch norm; use "
            f"--config.model.{name}=memory_tcn, or --config.model.head_norm=batch."
        )


def _check_causal(model) -> None:
    """A causal model is built of parts that see no later step, and no batch row."""
    allowed = {
        "backbone": ("mobilenet_tsm", "vit", "features"),
        "head": HEADS if model.system == "transeger" else ("memory_tcn",),
        "joint_positions": ("learned", "fixed"),
        "reference_padding": (False,),
    }
    for name, values in allowed.items():
        if model.causal and model[name] not in values:
            choice = " or ".join(map(repr, values))
            raise InputError(
                f"config.model.causal=True does not go with config.model.{name}="
                f"{model[name]!r}, with which a step's scores depend on later steps or "
                f"on other videos; use {choice}, or --config.model.causal=False."
            )


def _check_prompt(model) -> None:
    _check_choice(model, "model", prompt=PROMPTS)
    if model.prompt == "none" and model.system == "mete":
        raise InputError(
            "config.model.prompt='none' leaves METE nothing to match, which makes it "
            "SETE; use --config.model.system=sete."
        )
    parts = model.prompt_parts
    known = (*PROMPT_PARTS, "history")
    if not parts or len(set(parts)) < len(parts) or set(parts) - set(known):
        raise InputError(
            f"config.model.prompt_parts={parts} must be some of {known}, each "
            "once; for no prompt at all, use --config.model.prompt=none."
        )
    if "history" in parts and model.system != "transeger":
        raise InputError(
            f"config.model.prompt_parts={parts}: only Transeger's prompts can tell the "
            "'history'; leave it out, or use --config.model.system=transeger."
        )
    _check_at_least(model, "model", history_runs=1)


def _check_features(data, model) -> None:
    if bool(data.features) != (model.backbone == "features"):
        raise InputError(
            f"config.data.features={data.features!r} and config.model.backbone="
            f"{model.backbone!r} do not go together: a model of features needs "
            "--config.model.backbone=features --config.data.features=FOLDER, a model "
            "of videos neither."
        )
    if not data.clip_frames and (not data.features or model.system != "sete"):
        raise InputError(
            "config.data.clip_frames=0, a whole video in one chunk, requires features "
            "and config.model.system='sete'; set the frames of a chunk, such as "
            f"--config.data.clip_frames={32 * data.frame_stride}."
        )


def with_clip_frames(
    config: ml_collections.ConfigDict, num_frames: Iterable[int]
) -> ml_collections.ConfigDict:
    """Returns the config with a `data.clip_frames` of 0 replaced by the length of the
    longest of these videos, rounded up to a multiple of 64 steps."""
    if config.data.clip_frames:
        return config
    config = config.copy_and_resolve_references()
    unit = 64 * config.data.frame_stride
    config.data.clip_frames = -(-max(num_frames) // unit) * unit
    return config


def _check_train(train: ml_collections.ConfigDict) -> None:
    _check_choice(train, "train", selection=("validation", "test"))
    _check_choice(train, "train", remat=("none", "products", "blocks"))
    _check_at_least(train, "train", batch_size=1, num_epochs=1, chunks_per_call=1)
    _check_at_least(train, "train", eval_every_epochs=1, log_every_steps=1)
    _check_at_least(train, "train", chunks_per_step=0, split_from=0)
    _check_at_least(train, "train", save_every_steps=0, max_bad_chunks=0)
    _check_at_least(train, "train", gradient_chunks=1)
    _check_multiple(train, "chunks_per_call", "gradient_chunks")
    _check_multiple(train, "chunks_per_step", "gradient_chunks")
    fix = f"chunks_per_call={train.gradient_chunks}"
    _check_multiple(train, "chunks_per_step", "chunks_per_call", fix=fix)
    _check_positive(train, "train", "learning_rate")
    _check_positive(train, "train", "lr_decay")
    _check_at_least(train, "train", weight_decay=0, smooth_weight=0, clip_weight=0)
    if not 0 <= train.max_damaged_share < 1:
        raise InputError(
            f"config.train.max_damaged_share={train.max_damaged_share} must lie "
            "between 0 (the first damaged video is an error) and 1."
        )
    if not 0 < train.validation_share < 1:
        raise InputError(
            f"config.train.validation_share={train.validation_share} must lie strictly "
            "between 0 and 1, such as 0.2; to select on the test videos as the paper "
            "does, use --config.train.selection=test."
        )


def _check_multiple(train, name: str, of: str, *, fix: str = "") -> None:
    if train[name] % train[of]:
        fix = fix or f"{name}={-(-train[name] // train[of]) * train[of]}"
        raise InputError(
            f"config.train.{name}={train[name]} is not a multiple of "
            f"config.train.{of}={train[of]}; try --config.train.{fix}."
        )


def _check_choice(section: ml_collections.ConfigDict, where: str, **choices) -> None:
    for name, allowed in choices.items():
        if section[name] not in allowed:
            raise InputError(
                f"config.{where}.{name}={section[name]!r} is not one of "
                f"{', '.join(map(repr, allowed))}."
            )


def _check_at_least(section: ml_collections.ConfigDict, where: str, **least) -> None:
    for name, minimum in least.items():
        if not section[name] >= minimum:
            raise InputError(
                f"config.{where}.{name}={section[name]} must be at least {minimum}."
            )


def _check_positive(section: ml_collections.ConfigDict, where: str, name: str) -> None:
    if not 0 < section[name] < math.inf:
        raise InputError(
            f"config.{where}.{name}={section[name]} must be a positive number."
        )
