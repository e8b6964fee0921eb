"""Files in the manner in which programs and people write them."""

import json
import logging

import annotating
import pytest
from annotating import triples

from svtas_jax.errors import InputError

ELAN = """<?xml version="1.0" encoding="UTF-8"?>
<ANNOTATION_DOCUMENT AUTHOR="" DATE="2024-05-02T10:00:00+01:00" FORMAT="3.0"
    VERSION="3.0" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
    xsi:noNamespaceSchemaLocation="http://www.mpi.nl/tools/elan/EAFv3.0.xsd">
  <HEADER MEDIA_FILE="" TIME_UNITS="milliseconds">
    <MEDIA_DESCRIPTOR MEDIA_URL="file:///home/ann/my%20kitchen/monday.wav"
        MIME_TYPE="audio/x-wav" RELATIVE_MEDIA_URL="./monday.wav"/>
    <MEDIA_DESCRIPTOR MEDIA_URL="file:///home/ann/my%20kitchen/mon%20day.MP4"
        MIME_TYPE="video/mp4" RELATIVE_MEDIA_URL="./mon%20day.MP4" TIME_ORIGIN="500"/>
    <PROPERTY NAME="lastUsedAnnotationId">4</PROPERTY>
  </HEADER>
  <TIME_ORDER>
    <TIME_SLOT TIME_SLOT_ID="ts1" TIME_VALUE="1200"/>
    <TIME_SLOT TIME_SLOT_ID="ts2" TIME_VALUE="3000"/>
    <TIME_SLOT TIME_SLOT_ID="ts3"/>
    <TIME_SLOT TIME_SLOT_ID="ts4" TIME_VALUE="4500"/>
  </TIME_ORDER>
  <TIER LINGUISTIC_TYPE_REF="default-lt" TIER_ID="utterances">
    <ANNOTATION>
      <ALIGNABLE_ANNOTATION ANNOTATION_ID="a1" TIME_SLOT_REF1="ts1"
          TIME_SLOT_REF2="ts2">
        <ANNOTATION_VALUE>now the jar &amp; lid</ANNOTATION_VALUE>
      </ALIGNABLE_ANNOTATION>
    </ANNOTATION>
    <ANNOTATION>
      <ALIGNABLE_ANNOTATION ANNOTATION_ID="a2" TIME_SLOT_REF1="ts2"
          TIME_SLOT_REF2="ts4">
        <ANNOTATION_VALUE></ANNOTATION_VALUE>
      </ALIGNABLE_ANNOTATION>
    </ANNOTATION>
  </TIER>
  <TIER LINGUISTIC_TYPE_REF="action" PARENT_REF="utterances" TIER_ID="action">
    <ANNOTATION>
      <REF_ANNOTATION ANNOTATION_ID="a3" ANNOTATION_REF="a1">
        <ANNOTATION_VALUE>open jar</ANNOTATION_VALUE>
      </REF_ANNOTATION>
    </ANNOTATION>
  </TIER>
  <TIER LINGUISTIC_TYPE_REF="words" PARENT_REF="utterances" TIER_ID="words">
    <ANNOTATION>
      <ALIGNABLE_ANNOTATION ANNOTATION_ID="a4" TIME_SLOT_REF1="ts1"
          TIME_SLOT_REF2="ts3">
        <ANNOTATION_VALUE>now</ANNOTATION_VALUE>
      </ALIGNABLE_ANNOTATION>
    </ANNOTATION>
  </TIER>
  <TIER LINGUISTIC_TYPE_REF="default-lt" TIER_ID="notes"/>
</ANNOTATION_DOCUMENT>
"""


def test_elan(caplog):
    caplog.set_level(logging.INFO)
    (found,) = annotating.read(ELAN, "monday.eaf", tier="utterances")
    assert found.video == "mon day.MP4"
    assert triples(found) == [("now the jar & lid", 1.7, 3.5)]
    assert found.segments[0].where.endswith(
        "monday.eaf, line 20 (tier 'utterances', a1)"
    )
    assert "TIME_ORIGIN, 500 ms" in caplog.text
    assert "annotations without text (1)" in caplog.text
    (found,) = annotating.read(ELAN, "monday.eaf", tier="action")
    assert triples(found) == [("open jar", 1.7, 3.5)]


def test_elan_with_several_tiers_asks_for_one():
    message = (
        "monday.eaf: several tiers with segments: 'utterances' \\(1\\), 'action' "
        "\\(1\\), 'words' \\(1\\), 'notes' \\(0\\).*--tier=utterances"
    )
    with pytest.raises(InputError, match=message):
        annotating.read(ELAN, "monday.eaf")


def test_elan_needs_times():
    message = "monday.eaf, line 41 .tier 'words', a4.: its time slot 'ts3' has no time"
    with pytest.raises(InputError, match=message):
        annotating.read(ELAN, "monday.eaf", tier="words")


TEXTGRID = '''File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 5.5
tiers? <exists>
size = 2
item []:
    item [1]:
        class = "IntervalTier"
        name = "action ""1"""
        xmin = 0
        xmax = 5.5
        intervals: size = 3
        intervals [1]:
            xmin = 0
            xmax = 8.5e-05
            text = ""
        intervals [2]:
            xmin = 8.5e-05
            xmax = 2.25
            text = "say ""hi"" [2] 3"
        intervals [3]:
            xmin = 2.25
            xmax = 5.5
            text = "two
lines"
    item [2]:
        class = "TextTier"
        name = "clicks"
        xmin = 0
        xmax = 5.5
        points: size = 1
        points [1]:
            number = 1.5
            mark = "click"
'''


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-le"])
def test_textgrid(encoding, caplog):
    data = TEXTGRID.replace("\n", "\r\n").encode(encoding)
    (found,) = annotating.read(data, "monday.TextGrid")
    assert triples(found) == [
        ('say "hi" [2] 3', 8.5e-05, 2.25),
        ("two lines", 2.25, 5.5),
    ]
    assert found.segments[0].where.endswith('line 22 (tier \'action ""1""\')')
    assert "points of the tier 'clicks' (1)" in caplog.text


def test_audacity(caplog):
    text = "1,500000\t2,250000\topen jar\n\\\t100,0\t2000,0\n3,0\t3,0\tclap\n"
    (found,) = annotating.read(text)
    assert triples(found) == [("open jar", 1.5, 2.25), ("clap", 3.0, 3.0)]
    assert "frequencies of labels (1)" in caplog.text


def test_subrip():
    text = (
        "\ufeff1\r\n00:00:01,500 --> 00:00:04,000\r\n<i>open</i>\r\nthe jar\r\n\r\n"
        "2\r\n00:01:04,000 --> 01:00:05,250\r\nput\r\n"
    )
    (found,) = annotating.read(text, "a.srt")
    assert triples(found) == [("open the jar", 1.5, 4.0), ("put", 64.0, 3605.25)]
    assert found.segments[1].where.endswith("a.srt, line 7")


def test_webvtt():
    text = (
        "WEBVTT - kitchen\n\nNOTE by Ann\n\nSTYLE\n::cue { color: red }\n\nfirst\n"
        "00:01.500 --> 00:04.000 line:0 align:start\n<v Ann>open &amp; close</v>\n\n"
        "01:00:04.000 --> 01:00:05.250\nput\n"
    )
    (found,) = annotating.read(text, "a.vtt")
    assert triples(found) == [("open & close", 1.5, 4.0), ("put", 3604.0, 3605.25)]


def test_a_boris_project_of_several_files(caplog):
    media = {"files": ("a.mp4", "b.mp4"), "length": {"a.mp4": 10.0, "b.mp4": 20.0}}
    content = json.loads(annotating.boris([("eat", 2.0, 4.0), ("eat", 8.0, 12.5)]))
    observation = content["observations"]["morning"]
    observation["file"] = {"1": list(media["files"]), "2": ["side.mp4"]}
    observation["media_info"] = {"length": media["length"]}
    observation["time offset"] = 1.0
    observation["events"].append([14.0, "", "call", "", ""])
    content["behaviors_conf"]["9"] = {"code": "call", "type": "Point event"}
    content["observations"]["live"] = {
        "type": "LIVE",
        "events": [[1, "", "eat", "", ""]],
    }
    first, second = annotating.read(json.dumps(content), "project.boris")
    assert (first.video, second.video) == ("a.mp4", "b.mp4")
    assert triples(first) == [("eat", 1.0, 3.0), ("eat", 7.0, 10.0)]
    assert triples(second) == [("eat", 0.0, 1.5)]
    assert "point events, which have no length (1)" in caplog.text
    assert "observations without a video (1)" in caplog.text


OLD_BORIS = """Observation id\tday 1\t\t\t\t\t
\t\t\t\t\t\t
Media file(s)\t\t\t\t\t\t
Player #1\t/films/day1.avi\t\t\t\t\t
Observation date\t2016-11-27 01:57:26\t\t\t\t\t
Time\tMedia file path\tFPS\tSubject\tBehavior\tComment\tStatus
1.250\t/films/day1.avi\t25.0\t\teat\t\tSTART
2.000\t/films/day1.avi\t25.0\t\tcall\t\tPOINT
3.500\t/films/day1.avi\t25.0\t\tdrink\t\tSTART
3.500\t/films/day1.avi\t25.0\t\teat\t\tSTOP
9.750\t/films/day1.avi\t25.0\t\tdrink\t\tSTOP
"""


def test_an_old_table_of_boris(caplog):
    (found,) = annotating.read(OLD_BORIS, "day1.tsv")
    assert found.video == "day1.avi"
    assert triples(found) == [("eat", 1.25, 3.5), ("drink", 3.5, 9.75)]
    assert "point events, which have no length (1)" in caplog.text


def test_subjects_of_boris(caplog):
    text = (
        "Observation id,Media file name,Subject,Behavior,Behavior type,Start (s),"
        "Stop (s)\no1,a.mp4,cat,eat,STATE,1.0,2.0\no1,a.mp4,dog,eat,STATE,1.5,3.0\n"
        "o2,b.mp4,dog,sleep,STATE,0,3.5\n"
    )
    with pytest.raises(InputError, match="several subjects.*'cat'.*'dog'.*--tier=cat"):
        annotating.read(text, "o.csv")
    first, second = annotating.read(text, "o.csv", tier="dog")
    assert triples(first) == [("eat", 1.5, 3.0)]
    assert triples(second) == [("sleep", 0.0, 3.5)]
    assert "events of other subjects (1)" in caplog.text


def test_via_with_choices(caplog):
    project = json.loads(annotating.via([("k1", 1.5, 2.5), ("k2", 2.5, 4.0)]))
    project["attribute"] = {
        "1": {
            **{"aname": "action", "anchor_id": "FILE1_Z2_XY0", "type": 4},
            "options": {"k1": "open jar", "k2": "close jar"},
        },
        "2": {
            **{"aname": "hands", "anchor_id": "FILE1_Z2_XY0", "type": 2},
            "options": {"0": "left", "1": "right"},
        },
        "3": {"aname": "box", "anchor_id": "FILE1_Z1_XY1", "type": 1},
    }
    project["metadata"]["1_0"]["av"]["2"] = "0,1"
    project["metadata"]["box"] = {
        **{"vid": "1", "flg": 0, "z": [1.0], "xy": [2, 1, 1, 9, 9], "av": {"3": "x"}},
    }
    text = json.dumps(project)
    with pytest.raises(InputError, match="several attributes.*--tier=action"):
        annotating.read(text, "p.json")
    (found,) = annotating.read(text, "p.json", tier="action")
    assert triples(found) == [("open jar", 1.5, 2.5), ("close jar", 2.5, 4.0)]
    (found,) = annotating.read(text, "p.json", tier="hands")
    assert triples(found) == [("left", 1.5, 2.5), ("right", 1.5, 2.5)]
    assert "regions and single times" in caplog.text
    assert "segments without 'hands' (1)" in caplog.text


BOX = '<box frame="{}" outside="{}" occluded="0" keyframe="{}" xtl="1.00" ytl="1.00"\n'
BOX += (
    '  xbr="9.00" ybr="9.00" z_order="0"><attribute name="doing">{}</attribute></box>\n'
)
CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta>
    <task>
      <id>4</id><name>monday's task</name><size>40</size><mode>interpolation</mode>
      <start_frame>0</start_frame><stop_frame>39</stop_frame>
      <frame_filter>step=2</frame_filter>
      <labels><label><name>person</name><attributes><attribute><name>doing</name>
        <mutable>True</mutable></attribute></attributes></label></labels>
      <source>films/monday.mp4</source>
    </task>
    <dumped>2024-05-02 10:00:00+00:00</dumped>
  </meta>
"""
CVAT += '<track id="0" label="person" source="manual">\n'
for frame, outside, doing in [
    *((4, 0, "walk"), (6, 0, "walk"), (8, 0, "sit"), (10, 1, "sit")),
    *((20, 0, "sit"), (22, 0, "sit")),
]:
    CVAT += BOX.format(frame, outside, int(frame == 4), doing)
CVAT += "</track>\n</annotations>\n"


def test_tracks_of_cvat():
    (found,) = annotating.read(CVAT, "annotations.xml")
    assert found.video == "monday.mp4" and found.unit == "frames"
    assert triples(found) == [("person", 4, 10), ("person", 20, 24)]
    (found,) = annotating.read(CVAT, "annotations.xml", tier="doing")
    assert triples(found) == [("walk", 4, 8), ("sit", 8, 10), ("sit", 20, 24)]
    with pytest.raises(InputError, match="no attribute 'mood'; --tier.*'doing'"):
        annotating.read(CVAT, "annotations.xml", tier="mood")


def test_tags_and_tasks_of_cvat():
    images = "".join(
        f'<image id="{k}" name="frame_{k:06}" task_id="{task}" width="9" height="9">\n'
        f'<tag label="{label}" source="manual"></tag></image>\n'
        for task, k, label in [
            *(
                (1, 0, "eat"),
                (1, 1, "eat"),
                (1, 3, "eat"),
                (2, 0, "eat"),
                (2, 1, "cut"),
            ),
        ]
    )
    tasks = "".join(
        f"<task><id>{k}</id><source>day{k}.mp4</source></task>" for k in (1, 2, 3)
    )
    text = (
        f"<annotations><version>1.1</version><meta><project><tasks>{tasks}</tasks>"
        f"</project></meta>{images}</annotations>"
    )
    first, second, third = annotating.read(text, "annotations.xml")
    assert (first.video, second.video) == ("day1.mp4", "day2.mp4")
    assert triples(first) == [("eat", 0, 2), ("eat", 3, 4)]
    assert triples(second) == [("eat", 0, 1), ("cut", 1, 2)]
    assert third.segments == ()


def test_label_studio_without_the_full_form(caplog):
    caplog.set_level(logging.INFO)
    tasks = [
        {
            **{"id": 1, "video": "/data/local-files/?d=films/mon%20day.mp4"},
            "actions": [{"ranges": [{"start": 1, "end": 61}], "timelinelabels": ["a"]}],
        },
        {"id": 2, "video": "s3://bucket/films/tuesday.mp4", "actions": []},
    ]
    first, second = annotating.read(json.dumps(tasks), "project-min.json", fps=30)
    assert (first.video, second.video) == ("mon day.mp4", "tuesday.mp4")
    assert first.unit == "seconds" and triples(first) == [
        ("a", 0, pytest.approx(61 / 30))
    ]
    assert second.segments == ()
    annotating.read(json.dumps(tasks), "project-min.json")
    assert "at the frameRate of its <Video> (24 if it has none)" in caplog.text


def test_label_studio_in_seconds(caplog):
    result = {
        **{"type": "labels", "from_name": "label", "original_length": 60.0},
        "value": {"start": 1.25, "end": 3.5, "channel": 0, "labels": ["eat", "sit"]},
    }
    box = {
        **{"type": "videorectangle", "from_name": "box"},
        "value": {"framesCount": 9, "sequence": [{"frame": 1, "enabled": True}]},
    }
    tasks = [
        {
            **{"id": 7, "data": {"audio": "https://x.org/a/monday.mp4?sig=ab%2Fc"}},
            "annotations": [
                {"result": [], "was_cancelled": True},
                {"result": [result, box], "was_cancelled": False},
            ],
        },
        {"id": 8, "data": {"audio": "b.mp4"}, "annotations": []},
    ]
    (found,) = annotating.read(json.dumps(tasks), "export.json")
    assert found.video == "monday.mp4" and found.unit == "seconds"
    assert triples(found) == [("eat", 1.25, 3.5), ("sit", 1.25, 3.5)]
    assert "regions of the kind 'videorectangle' (1)" in caplog.text
    assert "tasks that are not annotated (1)" in caplog.text


DATAVYU = """#4
task (MATRIX,true,)-code01|NOMINAL,who|NOMINAL
00:00:01:000,00:00:02:999,(pour\\, slowly,ann)
00:00:03:000,00:00:03:000,(stir,bob)
00:00:04:000,00:00:05:000,(,bob)
gaze (MATRIX,true,)-code01|NOMINAL
"""


def test_datavyu(caplog):
    message = "the column 'task' has several codes: code01, who.*--columns=label=code01"
    with pytest.raises(InputError, match=message):
        annotating.read(DATAVYU, "day1.csv")
    options = {"columns": {"label": "code01"}}
    (found,) = annotating.read(DATAVYU, "day1.csv", **options)
    assert triples(found) == [("pour, slowly", 1.0, 3.0), ("stir", 3.0, 3.0)]
    assert "cells without a code (1)" in caplog.text


def test_a_column_and_a_cell_of_datavyu_with_escapes():
    text = (
        "#4\nfree\\-play (MATRIX,true,)-code\\,01|NOMINAL\n"
        "00:00:01:000,00:00:01:999,(two\\\nlines \\(a\\|b\\))\n"
        "00:00:02:000,00:00:02:499,(c)\n"
    )
    (found,) = annotating.read(text, "day1.csv", tier="free-play")
    assert triples(found) == [("two lines (a|b)", 1.0, 2.0), ("c", 2.0, 2.5)]
    assert found.segments[1].where.endswith("day1.csv, line 5 (column 'free-play')")


def test_cells_that_datavyu_exports():
    text = (
        "gaze.ordinal,gaze.onset,gaze.offset,gaze.code01,task.ordinal,task.onset,"
        "task.offset,task.code01,task.who,\n"
        '0,500,899,"left",0,1000,1999,"pour, slowly","ann",\n'
        '1,900,1499,"right",,,,,,\n'
    )
    (found,) = annotating.read(text, "day1.csv", tier="gaze")
    assert triples(found) == [("left", 0.5, 0.9), ("right", 0.9, 1.5)]
    options = {"tier": "task", "columns": {"label": "code01"}}
    (found,) = annotating.read(text, "day1.csv", **options)
    assert triples(found) == [("pour, slowly", 1.0, 2.0)]


def test_activitynet(caplog):
    database = {
        "ab-C_1": {
            **{"duration": 82.7, "subset": "training", "resolution": "640x480"},
            "annotations": [{"segment": [6.75, 19.5], "label": "Drinking coffee"}],
        },
        "xyz": {"duration": 9.5, "subset": "testing", "annotations": []},
    }
    text = json.dumps({"version": "VERSION 1.3", "database": database, "taxonomy": []})
    (found,) = annotating.read(text, "activity_net.v1-3.min.json")
    assert found.video == "ab-C_1"
    assert triples(found) == [("Drinking coffee", 6.75, 19.5)]
    assert "videos without annotations (1)" in caplog.text


EPIC = """narration_id,participant_id,video_id,narration_timestamp,start_timestamp,\
stop_timestamp,start_frame,stop_frame,narration,verb,verb_class,noun,noun_class,\
all_nouns,all_noun_classes
P01_01_0,P01,P01_01,00:00:01.089,00:00:00.14,00:00:03.37,8,202,open door,open,3,door,3,\
"['door', 'knob']","[3, 9]"
P02_01_0,P02,P02_01,00:00:02.629,00:00:04.37,00:01:06.17,262,370,"turn on, light",\
turn-on,6,light,114,['light'],[114]
"""


def test_epic_kitchens():
    first, second = annotating.read(EPIC, "EPIC_100_train.csv")
    assert (first.video, second.video) == ("P01_01", "P02_01")
    assert triples(first) == [("open door", 0.14, 3.37)]
    assert triples(second) == [("turn-on light", 4.37, 66.17)]
    options = {"columns": {"label": "narration"}}
    _, second = annotating.read(EPIC, "EPIC_100_train.csv", **options)
    assert triples(second) == [("turn on, light", 4.37, 66.17)]


EGTEA = """# Clip Prefix (Unique); Video Session; Starting Time (ms); \
Ending Time (ms); Action Label; Verb Label; Noun Label(s)
OP01-R01-Pasta-1002316-1004005-F024051-F024101; OP01-R01-Pasta; 1002316; 1004005; \
Take Bowl; Take; Bowl
OP01-R01-Pasta-1004000-1006000-F024101-F024141; OP01-R01-Pasta; 1004000; 1006000; \
Cut Onion,Knife; Cut; Onion,Knife
"""


def test_egtea():
    (found,) = annotating.read(EGTEA, "action_labels.csv")
    assert found.video == "OP01-R01-Pasta"
    assert triples(found) == [
        ("Take Bowl", 1002.316, 1004.005),
        ("Cut Onion,Knife", 1004.0, 1006.0),
    ]
    (found,) = annotating.read(EGTEA, "a.csv", columns={"label": "Verb Label"})
    assert [s.label for s in found.segments] == ["Take", "Cut"]


def test_breakfast():
    text = "1-30 SIL  \n31-150 take_bowl  \n151-428 pour_cereals  \n"
    (found,) = annotating.read(text, "P03_cam01_P03_cereals.txt")
    assert found.video == "P03_cam01_P03_cereals"
    assert triples(found)[:2] == [("SIL", 0, 30), ("take_bowl", 30, 150)]


def test_the_common_layout():
    text = "take\n" * 3 + "open jar\r\n" * 4 + "take\n\n"
    (found,) = annotating.read(text, "S1_Tea.txt")
    assert found.unit == "frames" and found.video == "S1_Tea"
    assert triples(found) == [("take", 0, 3), ("open jar", 3, 7), ("take", 7, 8)]
    assert found.segments[1].where.endswith("S1_Tea.txt, line 4")
