"""Deliberate damage, one kind at a time: each is found, and none ends the check."""

import fractions
import json
import os
import shutil

import av
import filming
import numpy as np
import pytest

from data_pipeline.checking import page, report
from data_pipeline.checking.kinds import KINDS, Severity

FIRST, OTHER, TESTED = "S1_a", "S1_b", "S3_a"
TRAIN, TEST = "splits/train.split1.bundle", "splits/test.split1.bundle"
LABELS = f"groundTruth/{FIRST}.txt"


def edit(data, name, change):
    """Writes what `change` makes of a file's lines."""
    data.write(name, change(data.lines(name)))


def mapping(*lines):
    return lambda data, film: data.write("mapping.txt", lines)


def remove(name):
    return lambda data, film: (data.root / name).unlink()


def write(name, *lines, **more):
    return lambda data, film: data.write(name, lines, **more)


def add(name, line):
    return lambda data, film: edit(data, name, lambda lines: [*lines, line])


def relabel(start, end, label, name=FIRST):
    """Gives frames of a video another label."""

    def damage(data, film):
        def change(lines):
            return lines[:start] + [label] * (end - start) + lines[end:]

        edit(data, f"groundTruth/{name}.txt", change)

    return damage


def resize_labels(count):
    def damage(data, film):
        edit(data, LABELS, lambda lines: (2 * lines)[:count])

    return damage


def reshoot(**more):
    """Films a video of the set anew."""
    return lambda data, film: film(data.video(FIRST), **more)


def copy(source, target, name):
    """Copies a video, and its labels, into a subset."""

    def damage(data, film):
        shutil.copy(data.video(source), data.video(target))
        join(data, source, target, name)

    return damage


def join(data, source, target, subset):
    data.write(f"groundTruth/{target}.txt", data.lines(f"groundTruth/{source}.txt"))
    edit(data, subset, lambda lines: [*lines, f"{target}.txt"])


def again(data, film):
    """Adds a smaller copy, in another codec, of a training video to the test."""
    path = data.root / "Videos" / "S3_c.avi"
    film(path, seed=0, codec="mpeg4", size=(36, 48), options={"b": "200000"})
    join(data, FIRST, "S3_c", TEST)


def part(data, film):
    """Adds a piece of a training video to the test."""
    film(data.video("S3_c"), seed=0, numbers=range(9, 45))
    data.write("groundTruth/S3_c.txt", data.lines(LABELS)[9:45])
    edit(data, TEST, lambda lines: [*lines, "S3_c.txt"])


def link(data, film):
    os.link(data.video(FIRST), data.video("S3_c"))
    join(data, FIRST, "S3_c", TEST)


def cut(share, **more):
    """Leaves the beginning of a file."""

    def damage(data, film):
        path = film(data.video(FIRST), **more) if more else data.video(FIRST)
        held = path.read_bytes()
        path.unlink()
        path.write_bytes(held[: int(share * len(held))])

    return damage


def scratch(data, film):
    """Overwrites bytes in the middle of a film of intra frames."""
    path = film(data.video(FIRST), codec="mjpeg", pix_fmt="yuvj420p", options={})
    held = bytearray(path.read_bytes())
    begin = int(0.3 * len(held))
    held[begin : begin + 600] = bytes(600)
    path.unlink()
    path.write_bytes(held)


def sound_only(data, film):
    data.video(FIRST).unlink()
    with av.open(str(data.video(FIRST)), "w") as container:
        filming.write_silence(container, container.add_stream("aac", rate=8000), 3.0)


def second_stream(codec="libx264", pix_fmt="yuv420p", disposition=0, count=45):
    """Puts another stream of pictures beside the film."""

    def damage(data, film):
        path = data.root / "Videos" / f"{FIRST}.mp4"
        held = path.with_suffix(".held")
        os.replace(path, held)
        with av.open(str(held)) as source, av.open(str(path), "w") as target:
            ours = target.add_stream_from_template(source.streams.video[0])
            other = target.add_stream(codec, rate=15)
            other.height, other.width, other.pix_fmt = 48, 64, pix_fmt
            other.disposition = disposition
            for number in range(count):
                frame = av.VideoFrame.from_ndarray(filming.picture(number, 48, 64))
                frame.pts, frame.time_base = number, fractions.Fraction(1, 15)
                target.mux(other.encode(frame.reformat(format=pix_fmt)))
            target.mux(other.encode(None))
            for packet in source.demux(source.streams.video[0]):
                if packet.size:
                    packet.stream = ours
                    target.mux(packet)
        held.unlink()

    return damage


def numbers(change):
    """Films the pictures of other moments, or None for a black one."""

    def damage(data, film):
        film(data.video(FIRST), seed=0, numbers=[change(n) for n in range(45)])

    return damage


def blank(level):
    """Makes a second and a half of one colour."""

    def damage(data, film):
        def paint(number, height, width):
            if number < 23:
                return np.full((height, width, 3), level, np.uint8)
            return filming.picture(number, height, width)

        film(data.video(FIRST), draw=paint)

    return damage


def stamps(change, ending="mp4"):
    """Shows the frames at other times."""

    def damage(data, film):
        data.video(FIRST).unlink()
        times = [round(1000 * change(n)) for n in range(45)]
        path = data.root / "Videos" / f"{FIRST}.{ending}"
        film(path, stamps=times, time_base=fractions.Fraction(1, 1000))

    return damage


def joined(data, film):
    """Joins recordings, of two sizes; both begin at zero."""
    data.video(FIRST).unlink()
    folder = data.root / "Videos"
    one = film(folder / "one.ts", seed=0, numbers=range(25))
    two = film(folder / "two.ts", seed=0, numbers=range(25, 45), size=(64, 96))
    (folder / f"{FIRST}.ts").write_bytes(one.read_bytes() + two.read_bytes())
    one.unlink()
    two.unlink()


def wrong_count(number):
    """An AVI without an index, whose header gives another number of frames."""

    def damage(data, film):
        data.video(FIRST).unlink()
        path = data.root / "Videos" / f"{FIRST}.avi"
        film(path, seed=0, codec="mpeg4", options={})
        held = bytearray(path.read_bytes().replace(b"idx1", b"JUNK"))
        place = held.index(b"strh") + 8 + 32
        held[place : place + 4] = number.to_bytes(4, "little")
        path.write_bytes(held)

    return damage


def shape_of_pixels(data, film):
    with av.open(str(data.video(FIRST))) as source:
        pictures = [f.to_ndarray(format="rgb24") for f in source.decode(video=0)]
    data.video(FIRST).unlink()
    with av.open(str(data.video(FIRST)), "w") as target:
        stream = target.add_stream("libx264", rate=15)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        stream.codec_context.sample_aspect_ratio = fractions.Fraction(4, 3)
        for picture in pictures:
            target.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        target.mux(stream.encode(None))


def all_of_one(data, film):
    for name in (FIRST, OTHER, "S2_a", "S2_b"):
        lines = data.lines(f"groundTruth/{name}.txt")
        data.write(f"groundTruth/{name}.txt", ["background"] * 41 + lines[41:])
    for name in (TESTED, "S3_b"):
        data.write(f"groundTruth/{name}.txt", ["background"] * 40 + ["open"] * 5)


def new_class(name, frames, videos=(FIRST, OTHER, "S2_a", "S2_b", TESTED, "S3_b")):
    """Adds a class of short segments, one a video."""

    def damage(data, film):
        edit(data, "mapping.txt", lambda lines: [*lines, f"4 {name}"])
        for video in videos:
            relabel(13, 13 + frames, name, video)(data, film)

    return damage


def set_field(**fields):
    return lambda data, film: data.data.update(fields)


def two_films(data, film):
    film(data.root / "Videos" / f"{FIRST}.avi", codec="mpeg4", options={})


def extra_video(data, film):
    film(data.root / "Videos" / "new.mp4", seed=7)


def extra_labels(data, film):
    data.write("groundTruth/new.txt", data.lines(LABELS))


def unlisted(data, film):
    extra_video(data, film)
    extra_labels(data, film)


def as_ids(data, film):
    names = [line.split()[1] for line in data.lines("mapping.txt")]
    edit(data, LABELS, lambda lines: [str(names.index(line)) for line in lines])


# Name of the damage, what does it, the kind of finding, and text of which it speaks.
DAMAGES = [
    # mapping.txt
    ("no mapping", remove("mapping.txt"), "missing_file", "mapping.txt"),
    ("empty mapping", mapping(), "empty_file", "mapping.txt"),
    (
        "gap in the ids",
        mapping("0 background", "1 open", "2 pour", "4 stir"),
        "class_ids",
        "id 3",
    ),
    (
        "ids from 1",
        mapping("1 background", "2 open", "3 pour", "4 stir"),
        "class_ids",
        "id 0",
    ),
    (
        "an id twice",
        mapping("0 background", "1 open", "1 pour", "2 stir"),
        "class_ids",
        "'open' and 'pour'",
    ),
    ("a class twice", add("mapping.txt", "4 stir"), "class_twice", "line 4"),
    ("no id", add("mapping.txt", "cut"), "mapping_line", "'cut'"),
    ("a colon", add("mapping.txt", "4: cut"), "mapping_line", "'4: cut'"),
    (
        "mapping in Latin-1",
        write("mapping.txt", "0 background", "1 gießen", encoding="latin-1"),
        "not_utf8",
        "byte 18",
    ),
    ("unused class", add("mapping.txt", "4 cut"), "unused_class", "'cut'"),
    ("twin by case", new_class("Stir", 9), "twin_classes", "case"),
    ("twin by a space", new_class("back ground", 9), "twin_classes", "spaces"),
    ("twin by a letter", new_class("backgroud", 1), "twin_classes", "alike"),
    # Labels
    ("no labels", remove(LABELS), "no_labels", "listed in split 1"),
    ("no folder of labels", "groundTruth", "missing_file", "no such folder"),
    ("empty labels", write(LABELS), "empty_file", "no line"),
    ("misspelt class", relabel(9, 12, "oppen"), "unknown_class", "'open'?"),
    ("class in capitals", relabel(9, 12, "OPEN"), "unknown_class", "'open'?"),
    ("ids as labels", as_ids, "unknown_class", "it is an id, write 'background'"),
    (
        "intervals as labels",
        write(LABELS, "1-20 open", "21-45 pour"),
        "unknown_class",
        "interval",
    ),
    ("blank line", relabel(9, 10, ""), "blank_line", "1 blank line"),
    (
        "labels in UTF-16",
        write(LABELS, *["open"] * 45, encoding="utf-16"),
        "not_utf8",
        "byte 0",
    ),
    ("half of the labels", resize_labels(22), "length", "22 labels, 45 frames"),
    ("twice the labels", resize_labels(90), "length", "labels at 30"),
    ("a frame too few", resize_labels(44), "length_cut", "44 labels, 45 frames"),
    ("one odd frame", relabel(4, 5, "stir"), "flicker", "'stir' has one frame"),
    ("odd first frame", relabel(0, 1, "stir"), "edge", "line 1:"),
    ("odd last frame", relabel(44, 45, "stir"), "edge", "line 45:"),
    ("one class", relabel(0, 45, "open"), "single_class", "'open'"),
    ("mostly background", all_of_one, "imbalance", "'background' fills"),
    ("short class", new_class("cut", 2), "too_short", "'cut'"),
    ("large stride", set_field(frame_stride=16), "too_short", "frame_stride=16"),
    ("long class", set_field(clip_frames=4), "longer_than_chunk", "clip_frames=4"),
    ("rare class", new_class("cut", 9, (FIRST, TESTED)), "rare_class", "1 segment "),
    ("class of test", new_class("cut", 9, (TESTED,)), "absent_from_train", "'cut'"),
    ("class of train", new_class("cut", 9, (FIRST,)), "absent_from_test", "'cut'"),
    ("labels alone", extra_labels, "orphan_labels", "no Videos/new"),
    ("labels in no split", unlisted, "in_no_split", "new.txt"),
    # Splits
    ("no splits", "splits", "no_split", "train.split1.bundle"),
    ("no test", remove(TEST), "no_split", "test.split1.bundle"),
    ("another split", set_field(split=3), "no_split", "train.split3.bundle"),
    ("empty split", write(TEST), "empty_file", "test.split1"),
    ("line twice", add(TRAIN, f"{FIRST}.txt"), "listed_twice", "in line 1"),
    ("line as a video", add(TRAIN, f"{FIRST}.mp4"), "listed_twice", "in line 1"),
    ("train in test", add(TEST, f"{FIRST}.txt"), "in_train_and_test", f"'{FIRST}'"),
    ("person on both sides", copy(FIRST, "S1_c", TEST), "shared_group", "S1"),
    ("line with a folder", add(TRAIN, "../a.txt"), "split_line", "folder"),
    ("wrong extension", add(TRAIN, f"{FIRST}.avi"), "split_line", f"{FIRST}.mp4"),
    ("unknown name", add(TRAIN, "S1_z.txt"), "no_video", "Videos/S1_z"),
    ("unknown video", add(TRAIN, "S1_z.mp4"), "no_labels", "S1_z.txt: does not exist"),
    ("blank in a split", write(TRAIN, FIRST, "", OTHER), "blank_line", "line 2"),
    (
        "two lists",
        write("splits/train_split1.txt", f"{FIRST}.txt"),
        "two_split_files",
        "train_split1.txt",
    ),
    (
        "split in Latin-1",
        write(TRAIN, "größe.txt", encoding="latin-1"),
        "not_utf8",
        "train.split1",
    ),
    # Video files
    ("no video", remove(f"Videos/{FIRST}.mp4"), "no_video", f"Videos/{FIRST}"),
    (
        "video misnamed",
        lambda data, film: os.replace(data.video(FIRST), data.video("S1_aa")),
        "no_video",
        "is it 'S1_aa'?",
    ),
    ("no folder of videos", "Videos", "missing_file", "no such folder"),
    ("two videos", two_films, "two_videos", "2 times"),
    ("video alone", extra_video, "unlabelled_video", "new.mp4"),
    ("empty video", cut(0.0), "unreadable_video", "0 bytes"),
    ("half of an MP4", cut(0.5), "unreadable_video", "damaged"),
    ("text as a video", write(f"Videos/{FIRST}.mp4", *"ab"), "unreadable_video", ""),
    (
        "end of a stream",
        cut(0.97, seed=0, muxer={"movflags": "+faststart"}),
        "cut_off",
        "of 45 frames",
    ),
    (
        "half of a stream",
        cut(0.4, muxer={"movflags": "+faststart"}),
        "damaged_video",
        "",
    ),
    ("bytes overwritten", scratch, "damaged_video", "after"),
    ("sound alone", sound_only, "no_film", "only sound"),
    ("two films", second_stream(), "several_films", "2 films"),
    (
        "cover picture",
        second_stream("mjpeg", "yuvj420p", av.stream.Disposition.attached_pic, 1),
        "cover_picture",
        "",
    ),
    ("edit list", reshoot(seed=0, stamps=range(-2, 43)), "edit_list", "2 frames"),
    ("turned", reshoot(seed=0, turn=(90, False, False)), "rotated", "48x64"),
    ("turned beside others", reshoot(turn=(90, False, False)), "other_shape", "1.33"),
    ("other shape", reshoot(size=(64, 48)), "other_shape", "48x64"),
    ("two sizes", joined, "size_changes", "96x64 instead of 64x48"),
    ("oblong pixels", shape_of_pixels, "anamorphic", "1.33"),
    (
        "interlaced",
        reshoot(seed=0, codec="mpeg2video", options={}, interlaced=True),
        "interlaced",
        "",
    ),
    ("small pictures", set_field(resize=(96, 128)), "small_pictures", "128x96"),
    ("count too small", wrong_count(20), "header_count", "says 20; it has 45"),
    ("count too large", wrong_count(60), "cut_off", "after 45 of 60 frames"),
    ("short video", reshoot(numbers=range(2)), "short_video", "2 frames"),
    # Pictures and times
    ("black", blank(0), "black", "frames 0 to 22: black, labelled 'background'"),
    ("grey", blank(128), "black", "of one colour"),
    ("stalled", numbers(lambda n: min(n, 20)), "frozen", "to 44: the picture"),
    ("every frame twice", numbers(lambda n: n // 2), "repeated_frames", "of 45"),
    (
        "gap in time",
        stamps(lambda n: n / 15 + 4 * (n > 20)),
        "time_gap",
        "frames 20 to 21",
    ),
    (
        "uneven times",
        stamps(lambda n: n / 15 + 0.05 * (n % 2), "mkv"),
        "variable_rate",
        "to 117 ms",
    ),
    ("time begins anew", joined, "time_back", "1 frame does"),
    ("other rate", reshoot(rate=30), "other_rate", "30 frames a second"),
    # What is there twice
    ("copy in test", copy(FIRST, "S3_c", TEST), "duplicate_across", "same bytes"),
    ("copy in train", copy(FIRST, "S1_c", TRAIN), "duplicate", "same bytes"),
    ("link in test", link, "duplicate_across", "same file"),
    ("encoded again", again, "duplicate_across", "likeness"),
    ("a part of it", part, "duplicate_across", "begins at second 0.6"),
]
assert len(DAMAGES) >= 40 and len({row[0] for row in DAMAGES}) == len(DAMAGES)


@pytest.mark.parametrize(
    ("damage", "kind", "text"),
    [row[1:] for row in DAMAGES],
    ids=[r[0] for r in DAMAGES],
)
def test_damage_is_found(damaged, shoot, damage, kind, text):
    if isinstance(damage, str):
        shutil.rmtree(damaged.root / damage)
    else:
        damage(damaged, shoot)
    examined = damaged.examine()
    said = [f"{f.where}: {f.what}" for f in examined.findings if f.kind == kind]
    assert any(text in line for line in said), [*said, *examined.findings]
    assert KINDS[kind].rule in page.render(examined).replace("&#x27;", "'")
    assert kind in report.text(examined)
    assert json.loads(json.dumps(report.as_json(examined)))["findings"]


def test_the_good_set_has_no_finding(good):
    examined = good.examine()
    assert not [f for f in examined.findings if f.severity < Severity.NOTE]
    assert not examined.findings


def test_it_goes_on_after_every_fault(damaged, shoot):
    """Also if the mapping and a split cannot be read."""
    damages = [
        *(remove("mapping.txt"), cut(0.0), add(TRAIN, f"{OTHER}.txt")),
        *(extra_video, extra_labels, write("groundTruth/S2_a.txt")),
        write(TEST, f"{TESTED}.txt", "größe.txt", encoding="latin-1"),
        relabel(9, 10, "", OTHER),
        relabel(4, 5, "stir", TESTED),
        lambda data, film: film(data.video("S2_b"), seed=0, numbers=range(40)),
    ]
    for damage in damages:
        damage(damaged, shoot)
    expected = {
        *("missing_file", "unreadable_video", "listed_twice", "in_no_split"),
        *("empty_file", "not_utf8", "blank_line", "flicker", "length", "no_labels"),
    }
    assert expected <= {f.kind for f in damaged.examine().findings}


def test_every_kind_has_a_damage():
    others = {"unknown_background", "bad_features", "refused", "not_examined"}
    rare = {"header_rate"}  # see the file gap.mp4
    assert set(KINDS) - others - rare <= {row[2] for row in DAMAGES}
