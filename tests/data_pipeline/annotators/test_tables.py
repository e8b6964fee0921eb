"""Tables as people write them: what is a label, a start, an end, and in which unit."""

import logging

import annotating
import pytest
from annotating import triples

from svtas_jax.errors import InputError

ONE = [("open jar", 1.5, 3.25)]


def lines(*rows):
    return "\n".join(rows) + "\n"


TABLES = {
    "BIDS": (lines("onset\tduration\ttrial_type", "1.5\t1.75\topen jar"), ONE),
    "a spreadsheet in German": (lines("Label;Start;Ende", "open jar;1,5;3,25"), None),
    "people": (lines("Action,From,To,Remark", "open jar,0:01.5,0:03.25,?"), ONE),
    "British": (lines("Behaviour, Begin , Finish", "open jar, 1.5 , 3.25"), ONE),
    "units in brackets": (
        lines("Start (ms),Stop (ms),Activity", "1500,3250,open jar"),
        ONE,
    ),
    "camel case": (lines("startTime,endTime,actionName", "1.5,3.25,open jar"), ONE),
    "names that are glued": (
        lines("starttime,endtime,class", "1.5,3.25,open jar"),
        ONE,
    ),
    "hours": (lines("label,start,end", "open jar,00:00:01.500,00:00:03.250"), ONE),
    "SMPTE": (lines("label,in,out", "open jar,00:00:01:12,00:00:03:06"), ONE),
    "suffixes": (lines("label,start,end", "open jar,1.5s,3250 ms"), ONE),
    "minutes": (lines("label,start_min,end_min", "open jar,0.025,0:03.25"), ONE),
    "times and frames": (
        lines("start_frame,stop_frame,start,stop,label", "45,97,1.5,3.25,open jar"),
        ONE,
    ),
    "numbers and names of classes": (
        lines("class_id,class,t_start,t_end", "4,open jar,1.5,3.25"),
        ONE,
    ),
    "ELAN's tabs": (
        lines(
            "action\tBegin Time - hh:mm:ss.ms\tBegin Time - ss.msec\t"
            "End Time - hh:mm:ss.ms\tEnd Time - ss.msec",
            "open jar\t00:00:01.500\t1.500\t00:00:03.250\t3.250",
        ),
        ONE,
    ),
    "seconds as text": (lines("label,start_s,duration_s", "open jar,1.5,1.75"), ONE),
    "whole seconds": (
        lines("label,start_sec,end_sec", "open jar,1,3"),
        [("open jar", 1, 3)],
    ),
    "quoted": (
        lines('"label","start","end"', '"open, ""jar""",1.5,3.25'),
        [('open, "jar"', 1.5, 3.25)],
    ),
    "comments": (lines("# by Ann", "label,start,end", "open jar,1.5,3.25"), ONE),
    "blank lines and cells": (
        lines("label,start,end,,", "", "open jar,1.5,3.25,,"),
        ONE,
    ),
    "no header, label last": (lines("1.5,3.25,open jar"), ONE),
    "no header, with a video": (lines("a.mp4;1,5;3,25;open jar"), ONE),
}


@pytest.mark.parametrize("name", [n for n, (_, wanted) in TABLES.items() if wanted])
def test_tables_are_read(name):
    text, wanted = TABLES[name]
    (found,) = annotating.read(
        text, "day1.csv", **({"fps": 24} if name == "SMPTE" else {})
    )
    assert found.unit == "seconds" and triples(found) == wanted
    assert found.video == ("a.mp4" if "video" in name else "day1")


def test_a_column_that_is_not_recognised_is_asked_for():
    text, _ = TABLES["a spreadsheet in German"]
    message = (
        "day1.csv: no column is recognised as end among 'Label', 'Start', 'Ende'; name "
        "it with --columns=end=COLUMN"
    )
    with pytest.raises(InputError, match=message):
        annotating.read(text, "day1.csv")
    for name in ("Ende", "ende", "3"):
        (found,) = annotating.read(text, "day1.csv", columns={"end": name})
        assert triples(found) == ONE


def test_numbered_columns_are_a_header():
    with pytest.raises(InputError, match="no column is recognised .* among '0', '1'"):
        annotating.read(lines("0,1,2", "open jar,1.5,3.25"), "day1.csv")


def test_rows_of_several_videos():
    text = lines(
        "video,label,start,end",
        *("films/a.mp4,eat,0.5,2", "films/b.mp4,cut,0,1.5", "films/a.mp4,cut,2,3"),
    )
    first, second = annotating.read(text, "all.csv")
    assert (first.video, second.video) == ("a.mp4", "b.mp4")
    assert triples(first) == [("eat", 0.5, 2), ("cut", 2, 3)]
    assert first.segments[1].where.endswith("all.csv, line 4")


def test_videos_of_one_name_in_two_folders_are_not_mixed():
    text = lines("file,label,start,end", "1/a.mp4,eat,0.5,2", "2/a.mp4,cut,0,1.5")
    with pytest.raises(InputError, match="The video 'a' is annotated twice"):
        annotating.read(text, "all.csv")


WHOLE = lines("label,start,end", "eat,0,150", "cut,151,300", "eat,301,420")


def test_whole_numbers_without_a_unit_are_asked_for():
    with pytest.raises(InputError, match="'start' and 'end' hold whole numbers.*unit="):
        annotating.read(WHOLE, "day1.csv")
    (found,) = annotating.read(WHOLE, "day1.csv", columns={"unit": "milliseconds"})
    assert triples(found)[0] == ("eat", 0, 0.15)
    (found,) = annotating.read(WHOLE, "day1.csv", fps=30)
    assert found.unit == "seconds" and found.segments[0].end == pytest.approx(151 / 30)


def test_ends_that_are_the_last_frames_are_seen(caplog):
    caplog.set_level(logging.INFO)
    (found,) = annotating.read(WHOLE, "day1.csv", columns={"unit": "frames"})
    assert triples(found) == [("eat", 0, 151), ("cut", 151, 301), ("eat", 301, 421)]
    assert "ends are the last frames" in caplog.text
    touching = WHOLE.replace("151", "150").replace("301", "300")
    (found,) = annotating.read(touching, "day1.csv", columns={"unit": "frames"})
    assert triples(found) == [("eat", 0, 150), ("cut", 150, 300), ("eat", 300, 420)]
    assert "ends are exclusive" in caplog.text
    options = {"columns": {"unit": "frames", "last": "end"}}
    (found,) = annotating.read(touching, "day1.csv", **options)
    assert triples(found)[0] == ("eat", 0, 151)


def test_the_last_frame_may_be_called_so():
    text = lines("label,first_frame,last_frame", "eat,0,149", "cut,160,299")
    (found,) = annotating.read(text, "day1.csv")
    assert found.unit == "frames"
    assert triples(found) == [("eat", 0, 150), ("cut", 160, 300)]


def test_what_was_guessed_is_told_once(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    for name in ("a", "b", "c"):
        text = lines("Behaviour;Start;Stop;Who", "eat;1,5;2,5;ann")
        (tmp_path / f"{name}.csv").write_text(text)
    assert len(annotating.read_annotations(tmp_path)) == 3
    told = [record.message for record in caplog.records]
    more = f"{tmp_path}/a.csv and 2 more: "
    assert sorted(told) == [
        f"{more}columns label='Behaviour', start='Start', end='Stop'; not used: 'Who'",
        f"{more}format csv",
        f"{more}separator ';'",
        f"{more}unit seconds",
    ]
