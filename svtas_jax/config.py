"""All settings of the program, with their defaults; `config_rules` has their rules.

A file in `configs/` starts from `default_config()` and sets what differs. A config file
derives no value from another, so every field can be overridden on the command line:
`--config.data.split=2`.
"""

from collections.abc import Iterable

import ml_collections

from svtas_jax.structs import StreamSpec

SYSTEMS = ("sete", "mete", "transeger")
BACKBONES = ("mobilenet_tsm", "i3d", "r2plus1d", "vit", "features")
JOINTS = ("memory_tcn", "fc", "transformer")
PROMPTS = ("learned", "fixed", "none")
PROMPT_PARTS = ("ordinal", "count", "position", "context", "name")
DEFAULT_LENGTH_GAP = 0.02
IMAGENET = "imagenet"  # as train.init_from
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
    data.random_start = False  # training begins a video at another frame in every
    # epoch, less than a chunk after its first, so that borders and frames shown differ
    data.colour = 0.0  # 0.2: training changes brightness, contrast and saturation by up
    # to 20 % and the gain of each colour by 10 %, alike in a video for an epoch
    data.zoom = 0.0  # 0.3: the side of training's crop is up to 1.3 times smaller or
    # (if it fits) larger, and its place random, alike in a video for an epoch
    data.erase = 0.0  # share of the videos in which training covers a rectangle
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
    model.image_norm = "batch"  # batch norms of MobileNetV2 and ResNets in training, of
    # the batch; "frozen": of the statistics that they start from, see train.init_from
    model.image_dropout = 0.0  # share of the channels of the image features, or of
    # data.features, that training drops, the same ones in all steps of a chunk
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
    model.feedback = "labels"  # what prompts are made of: "labels", of the highest
    # scores; or "soft", expected token vectors under the scores of all classes
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
    train.optimizer = "adam"  # with L2 in the gradient; or "adamw", decoupled decay
    train.weight_decay = 1e-4  # "adam": of every parameter; "adamw": of all but biases,
    # factors of norms and the token table
    train.schedule = "steps"  # of the rate; "cosine" ignores lr_milestones and falls to
    # 0 until the end of num_epochs, which a resumed run cannot change then
    train.lr_milestones = (50,)  # epochs after which lr_decay multiplies the rate
    train.lr_decay = 0.1
    train.warmup_epochs = 0.0  # at the start, in which the rate rises linearly
    train.clip_norm = 0.0  # longer gradients of a step are scaled to it; 0: none are
    train.ema = (
        0.0  # decay per step of moving averages of weights and batch statistics,
    )
    # which all but training then uses; 0: none are kept
    train.label_smoothing = 0.0  # share of a frame's target spread over all classes
    train.focal_gamma = 0.0  # exponent of the focal loss; 0: plain cross entropy
    train.logit_adjustment = 0.0  # weight of the logarithms of the classes' shares of
    # the training videos' frames, which are added to the logits in training
    train.boundary_smoothing = 0  # raw frames on each side of a label's border whose
    # targets mix the two labels
    train.smooth_weight = 0.15  # weight of the truncated smoothing loss
    train.clip_weight = 1.0  # weight of METE's contrastive loss
    train.own_labels = 0.0  # share of the chunks about which the next prompts are made
    # of the model's own labels; 0: of the true ones (teacher forcing), as in the paper
    train.own_labels_from = 0  # first epoch with own labels
    train.own_labels_ramp = 0  # epochs from there until their share is own_labels
    train.label_noise = 0.0  # share of the segments in prompts of true labels that get
    # a wrong class, and of their borders that move by up to two steps
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
    train.validation_group = ""  # regular expression whose brackets find in a video's
    # name what must not be on both sides, such as the person: r"(S\d+)". Then whole
    # groups are held out, as many as come closest to the share. "": any videos
    train.eval_every_epochs = 1
    train.save_every_steps = 50  # between evaluations; 0: only after each of them
    train.log_every_steps = 10
    train.init_from = ""  # where weights start: the best ones of a run (its workdir),
    # a file of weights (.pth, .safetensors, .npz), or "imagenet": the MobileNetV2 that
    # torchvision or timm downloaded; "": fresh ones
    return train


def _eval_defaults() -> ml_collections.ConfigDict:
    evaluate = ml_collections.ConfigDict()
    evaluate.batch_size = 1  # videos streamed in parallel; does not change results
    evaluate.background = ("background", "None")  # classes that segment metrics ignore
    return evaluate


def stream_spec(config: ml_collections.ConfigDict) -> StreamSpec:
    """Returns how `config.data` cuts a video into windows."""
    return StreamSpec(config.data.clip_frames, config.data.frame_stride)


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
