"""Makes a data set of videos and the annotations of any common tool.

    python -m data_pipeline.prepare --videos=FOLDER --annotations=FILE_OR_FOLDER
        --output=data/kitchen [--format=FORMAT] [--tier=NAME]
        [--columns=label=Behaviour,start=From] [--fps=RATE]
        [--fill=background] [--close_gaps=SECONDS] [--overlap=error|last]
        [--beyond=error|cut] [--classes=a,b|mapping.txt] [--rename=OLD=NEW ...]
        [--folds=K] [--group="(S\\d+)"] [--crop=SIDE]
        [--init_from=imagenet|FILE] [--partial] [--link|--stay] [--overwrite]

Writes the field's common layout: labels of every frame by the video's time stamps,
mapping, splits, a config with its reasons, and preparation.md, which lists what was
found. What annotations leave open is an error until a flag decides it. See
docs/own_data.md.
"""

import pathlib
import shlex
import sys

from absl import flags, logging

from data_pipeline.annotators.read import FORMATS, read_annotations
from data_pipeline.layout import classes, writing
from data_pipeline.layout.labelling import Rules
from data_pipeline.layout.preparing import Options, prepare
from svtas_jax.config import IMAGENET
from svtas_jax.errors import InputError, MissingInputError
from svtas_jax.runtime import cli

_LEAST_CROP = 32  # the network's strides divide it by as much


def main() -> None:
    """Runs the command."""
    given = flags.FLAGS
    options = read_options()
    writing.check_output(
        options.output,
        (options.videos, pathlib.Path(given.annotations)),
        in_place=writing.is_in_place(options.output, options.videos),
        overwrite=options.overwrite,
    )
    annotations = read_annotations(
        pathlib.Path(given.annotations),
        format=given.format,
        tier=given.tier,
        columns=_pairs(given.columns),
        fps=given.fps,
    )
    segments = sum(len(annotation.segments) for annotation in annotations)
    logging.info("%d segments of %d videos", segments, len(annotations))
    command = shlex.join(["python", "-m", "data_pipeline.prepare", *sys.argv[1:]])
    prepare(options, annotations, command)


def read_options() -> Options:
    """Returns the options that the flags give.

    Raises:
        InputError: if flags contradict each other.
    """
    given = flags.FLAGS
    if 0 < given.crop < _LEAST_CROP:
        raise InputError(
            f"--crop={given.crop} is too small: the image network needs at least "
            f"{_LEAST_CROP} pixels."
        )
    if given.link and given.stay:
        raise InputError("--link and --stay exclude each other; give one of them.")
    named = given.classes or _mapping_beside(pathlib.Path(given.annotations))
    return Options(
        videos=pathlib.Path(given.videos),
        output=pathlib.Path(given.output),
        rules=Rules(
            fill=given.fill,
            close_gaps_s=given.close_gaps,
            overlap=given.overlap,
            beyond=given.beyond,
        ),
        classes=classes.read_classes(named) if named else (),
        renames=classes.parse_renames(given.rename),
        folds=given.folds,
        crop=given.crop,
        init_from=weights_of(given.init_from),
        group=given.group,
        partial=given.partial,
        place="link" if given.link else "stay" if given.stay else "copy",
        overwrite=given.overwrite,
    )


def weights_of(init_from: str) -> str:
    """Returns `config.train.init_from`, a file by its full path.

    Raises:
        InputError: if there is no such file.
    """
    if init_from in ("", IMAGENET):
        return init_from
    path = pathlib.Path(init_from)
    if path.is_dir():
        raise InputError(
            f"--init_from={path} is a folder, and a file of weights or {IMAGENET} is "
            "wanted. To go on from a run: svtas_jax.train --config.train.init_from=RUN."
        )
    if not path.is_file():
        raise MissingInputError(
            f"--init_from={path} does not exist; name a file of MobileNetV2's weights, "
            f"or {IMAGENET} for those that torchvision or timm downloaded."
        )
    return str(path.resolve())


def _mapping_beside(annotations: pathlib.Path) -> str:
    """Returns the mapping.txt of labels that are in the common layout already."""
    if annotations.name != "groundTruth":
        return ""
    path = annotations.parent / "mapping.txt"
    if not path.is_file():
        return ""
    logging.info("classes are those of %s, in its order", path)
    return str(path)


def _pairs(entries: list[str]) -> dict[str, str]:
    pairs = {}
    for entry in entries:
        field, _, column = entry.partition("=")
        pairs[field] = column
        if not (field and column):
            raise InputError(
                f"--columns={','.join(entries)} is not a list of FIELD=COLUMN, such as "
                "label=Behaviour,start=From,end=To,video=File."
            )
    return pairs


def define_flags() -> None:
    """Defines the flags of this command."""
    flags.DEFINE_string(
        "videos", None, "Folder of the videos, and of folders of videos."
    )
    flags.DEFINE_string(
        "annotations", None, "File, or folder of files, that says what happens when."
    )
    flags.DEFINE_string("output", None, "Folder to write; it must be new or empty.")
    flags.DEFINE_enum("format", None, FORMATS, "Of the annotations; else found out.")
    flags.DEFINE_string(
        "tier", None, "Tier, track or layer to read, if there are several."
    )
    flags.DEFINE_list("columns", [], "Columns of a table: label=NAME,start=NAME,...")
    flags.DEFINE_float(
        "fps", None, "Rate that frame numbers count in, if not the video's.", 0.001
    )
    flags.DEFINE_string(
        "fill", "", "Class of frames that no segment covers, such as background."
    )
    flags.DEFINE_float(
        "close_gaps", 0.0, "Seconds: shorter gaps join the segment before.", 0.0
    )
    flags.DEFINE_enum("overlap", "error", ("error", "last"), "What overlaps are.")
    flags.DEFINE_enum("beyond", "error", ("error", "cut"), "What is beyond the end.")
    flags.DEFINE_string(
        "classes", "", "All classes in their order: a,b,c or a mapping.txt."
    )
    flags.DEFINE_multi_string("rename", [], "OLD=NEW: a class to rename.")
    flags.DEFINE_integer("folds", 0, "Splits to make; 0: up to four.", lower_bound=0)
    flags.DEFINE_string(
        "group", "", "Regular expression for what may not be in train and test."
    )
    flags.DEFINE_integer(
        "crop",
        0,
        "Side of the pictures that the model sees; 0: by the videos' size.",
        lower_bound=0,
    )
    flags.DEFINE_string(
        "init_from",
        "",
        "Weights of a MobileNetV2 to start from, a file or imagenet: the config then "
        "has the recipe that did best on real videos of a few people.",
    )
    flags.DEFINE_bool("partial", False, "Leave out annotations without a video.")
    flags.DEFINE_bool("link", False, "Link to the videos instead of copying them.")
    flags.DEFINE_bool("stay", False, "Leave videos where they are; list their paths.")
    flags.DEFINE_bool("overwrite", False, "Replace an output of this command.")


if __name__ == "__main__":
    define_flags()
    cli.run(main, required=("videos", "annotations", "output"))
