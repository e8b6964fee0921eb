"""The kinds of findings: how bad each is, the rule that it breaks, and a remedy."""

import dataclasses
import enum


class Severity(enum.IntEnum):
    """How bad a finding is; the worst comes first in any order."""

    ERROR = 0  # training refuses the data, or its results would be wrong
    WARNING = 1  # probably a mistake
    NOTE = 2  # good to know

    @property
    def word(self) -> str:
        """The name as people read it."""
        return self.name.lower()


@dataclasses.dataclass(frozen=True)
class Kind:
    """One kind of finding: how bad it is, the rule that it breaks, and what to do."""

    severity: Severity
    rule: str
    remedy: str


def _error(rule: str, remedy: str) -> Kind:
    return Kind(Severity.ERROR, rule, remedy)


def _warning(rule: str, remedy: str) -> Kind:
    return Kind(Severity.WARNING, rule, remedy)


def _note(rule: str, remedy: str) -> Kind:
    return Kind(Severity.NOTE, rule, remedy)


_AGAIN = "Copy or download the file again, or write anew what is left: ffmpeg -i INPUT "
_AGAIN += "-c:v libx264 OUTPUT.mp4"
_AS_LABELLED = "Write it anew at the rate of the others, and label that file."

KINDS = {
    # The files of text.
    "missing_file": _error(
        "A data set has Videos/, groundTruth/, mapping.txt and splits/.",
        "Put the file there; docs/own_data.md shows the layout.",
    ),
    "empty_file": _error(
        "A file of text holds at least one line.",
        "Fill it, or take what it stands for out of the data set.",
    ),
    "not_utf8": _error(
        "Files of text are UTF-8.", "Save it as UTF-8: iconv -f latin1 -t utf-8."
    ),
    "blank_line": _error("No line is blank, but for the end.", "Fill or remove it."),
    "mapping_line": _error("A line of mapping.txt is 'id name'.", "Correct the line."),
    "class_ids": _error(
        "Ids are 0 to K-1, each once.", "Number the classes from 0, without gaps."
    ),
    "class_twice": _error("A class has one line.", "Keep one of the lines."),
    "twin_classes": _warning(
        "Classes are told apart by more than case, spaces or one letter.",
        "If they are one class typed in two ways, correct mapping.txt and the labels.",
    ),
    "unused_class": _warning(
        "Every class of mapping.txt occurs.",
        "Take it out of mapping.txt, or find its labels: perhaps they are misspelt.",
    ),
    "unknown_background": _error(
        "config.eval.background names classes of mapping.txt.",
        "Name one of them, or () if none is background.",
    ),
    # Splits.
    "no_split": _error(
        "A split has a list of training and one of test videos.",
        "Write splits/{train,test}.splitK.bundle, one NAME.txt a line.",
    ),
    "two_split_files": _error(
        "A split is listed in one file.", "Keep one of the two files."
    ),
    "split_line": _error(
        "A line of a split is NAME.txt, as in groundTruth/.", "Correct the line."
    ),
    "listed_twice": _error("A split lists a video once.", "Keep one line."),
    "in_train_and_test": _error(
        "No video is trained on and tested on.", "Take it out of one of the two."
    ),
    "shared_group": _warning(
        "A person is in train or in test: a model that knows the person looks better "
        "than it is. Found by names like S1_... and P03_...",
        "Move all videos of a person to one side, if these are people.",
    ),
    "in_no_split": _note(
        "Nobody trains or tests on what no split lists.",
        "Add it to splits/, if it was not left out on purpose.",
    ),
    # Labels.
    "no_labels": _error(
        "Every video of a split has labels.",
        "Write groundTruth/NAME.txt, or take it out of the split.",
    ),
    "unknown_class": _error(
        "Labels are class names of mapping.txt, typed alike.",
        "Correct the lines, or add the class to mapping.txt.",
    ),
    "length": _error(
        "Labels and frames are equally many, give or take config.data.max_length_gap.",
        "Label the frames of the very file, one line a frame.",
    ),
    "length_cut": _note(
        "Where labels and frames differ a little, the longer one is cut.",
        "Nothing, if the end matters little.",
    ),
    "flicker": _warning(
        "An action lasts longer than one frame.",
        "Correct the label, if it was a slip.",
    ),
    "edge": _warning(
        "No label begins with the last frame or ends with the first: this is what "
        "rounding or counting from 1 leaves.",
        "Correct the first or last line.",
    ),
    "single_class": _warning(
        "A video shows several actions.",
        "See whether its labels were written to the end; for clips of one action each "
        "it is meant.",
    ),
    "too_short": _warning(
        "At least half of a class's segments hold two of the frames that the model "
        "sees (config.data.frame_stride).",
        "Use a smaller --config.data.frame_stride.",
    ),
    "longer_than_chunk": _note(
        "What is longer than a chunk (config.data.clip_frames) is never seen whole; "
        "the state of the stream must carry it.",
        "Nothing, or a larger --config.data.clip_frames.",
    ),
    "imbalance": _warning(
        "No class fills four fifths of all frames.",
        "Look at F1 and Edit, not at accuracy; cut what is empty, or add videos.",
    ),
    "rare_class": _warning(
        "A class has three segments or more in training.",
        "Add videos, or merge it with another class.",
    ),
    "absent_from_train": _warning(
        "What is tested is trained.", "Move a video, or take out the class."
    ),
    "absent_from_test": _note(
        "What is trained is tested.", "Move a video, if the class matters."
    ),
    # Which files are there.
    "no_video": _error(
        "Every video of a split is in Videos/.",
        "Put it there, or take it out of the split.",
    ),
    "two_videos": _error(
        "One video has one name.", "Take the file that was not labelled out."
    ),
    "orphan_labels": _warning(
        "Labels belong to a video.", "Put the video there, or remove the labels."
    ),
    "unlabelled_video": _note(
        "Videos without labels are not used.", "Label it, or leave it."
    ),
    # What is in a video.
    "unreadable_video": _error("A video can be opened.", _AGAIN),
    "no_film": _error(
        "A video holds a film that FFmpeg decodes.", "Name or convert the right file."
    ),
    "damaged_video": _error("A video can be read to its end.", _AGAIN),
    "cut_off": _warning("A video ends where its header says.", _AGAIN),
    "header_count": _note(
        "A header says how many frames there are; where it is wrong, they are counted.",
        "Nothing.",
    ),
    "several_films": _warning(
        "A file holds one film; of several, one is read.",
        "Keep the one that was labelled: ffmpeg -i INPUT -map 0:v:N -c copy OUTPUT",
    ),
    "cover_picture": _note("A cover picture is no part of the film.", "Nothing."),
    "edit_list": _note(
        "Frames that an edit list hides do not count, as in players.",
        "Label only the frames that are shown.",
    ),
    "rotated": _note(
        "Pictures are turned as the file says, as players do.",
        "See whether the thumbnails in check.html are upright.",
    ),
    "size_changes": _warning(
        "Pictures keep their size; others are stretched to that of the first one.",
        "Look at the place: two recordings may have been joined.",
    ),
    "anamorphic": _note(
        "Pixels are taken as square.", "Nothing, if all videos are alike."
    ),
    "interlaced": _note(
        "Interlaced pictures are read as they are.",
        "Perhaps deinterlace them: ffmpeg -i INPUT -vf yadif OUTPUT.mp4",
    ),
    "black": _warning(
        "Pictures show something: not one colour alone for a second.",
        "Look at the place; label it as background, or cut it out.",
    ),
    "frozen": _warning(
        "The picture does not stand still for a second.",
        "Look at the place: the recording may have stalled. In strongly compressed "
        "films of a scene without motion it may be right.",
    ),
    "repeated_frames": _warning(
        "Frames differ from the ones before.",
        "The rate was probably raised by repeating frames: use the original.",
    ),
    "variable_rate": _note(
        "A variable frame rate is fine: line n labels the n-th frame.",
        "See that the labels were made by frames, not by seconds times a rate.",
    ),
    "other_rate": _warning(
        "All videos have about one frame rate; else actions differ in speed.",
        _AS_LABELLED,
    ),
    "header_rate": _note(
        "Frame rates come from the time stamps.", "Nothing; players may be wrong."
    ),
    "time_gap": _warning(
        "Time stamps have no gap of more than a second.",
        "Look at the place: frames are missing, and labels by seconds are late.",
    ),
    "time_back": _warning(
        "Time stamps rise.", "Write the file anew: ffmpeg -i INPUT OUTPUT.mp4"
    ),
    "other_shape": _warning(
        "All videos have about one shape: each is stretched to config.data.resize.",
        "See whether it is turned; crop it, or train on videos of one shape.",
    ),
    "small_pictures": _note(
        "Pictures smaller than config.data.resize are enlarged, which costs time and "
        "adds nothing.",
        "Use a smaller --config.data.resize and --config.data.crop.",
    ),
    "short_video": _warning(
        "The model sees at least two frames of a video.", "Leave it out."
    ),
    "duplicate_across": _error(
        "No content is trained on and tested on.", "Take one of them out."
    ),
    "duplicate": _warning(
        "No video is there twice.", "Take one out, if it is not meant."
    ),
    # What is not video.
    "bad_features": _error(
        "Features are finite, and fit the labels.",
        "Extract them again: python -m svtas_jax.extract --help",
    ),
    "refused": _error(
        "Training reads the data as they are.", "See the message; it says what to do."
    ),
    "not_examined": _note("What cannot be checked is said.", "Nothing."),
}
