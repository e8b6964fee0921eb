"""A mistake ends with one message: file, line or entry, rule, remedy."""

import json

import annotating
import pytest
from annotating import triples

from data_pipeline.annotators.read import read_annotations
from svtas_jax.errors import InputError, MissingInputError

GOOD = [("eat", 0.5, 2.0), ("cut", 2.0, 3.25)]
EARLY, NEGATIVE = [("eat", 3.0, 2.0)], [("eat", -1.0, 2.0)]


def changed(text, *pairs):
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new, 1)
    return text


def csv(*rows):
    return "\n".join(["label,start,end", *rows])


BOMB = '<!DOCTYPE a [<!ENTITY b "c"><!ENTITY d "&b;&b;">]>\n'
SRT, VTT, EAF = annotating.srt(GOOD), annotating.vtt(GOOD), annotating.elan(GOOD)
GRID, BORIS, VIA = (
    annotating.textgrid(GOOD),
    annotating.boris(GOOD),
    annotating.via(GOOD),
)
CVAT = annotating.cvat([("eat", 1, 20)])
STUDIO = annotating.label_studio([("eat", 1, 20)])
NET, EPIC, EGTEA = (
    write(GOOD) for write in (annotating.activitynet, annotating.epic, annotating.egtea)
)
TABULAR, DATAVYU = annotating.boris_tabular(GOOD), annotating.datavyu(GOOD)

FAULTS = [
    # name, content, options, message
    # whatever the format
    ("a.csv", b"", {}, "a.csv: the file is empty"),
    ("a.eaf", b"\xef\xbb\xbf \r\n", {}, "a.eaf: the file is empty"),
    (
        "a.txt",
        "Dear all,\nthese are notes.\n",
        {},
        "not recognised from 'Dear all,'.*--f",
    ),
    (
        "a.csv",
        b"label,start,end\neat,1.5,2\ncaf\xe9,2,3",
        {},
        "line 3: byte 0xe9.*UTF-8",
    ),
    ("a.json", '{"database": {', {}, "a.json, line 1: broken JSON"),
    ("a.json", '{"x": 1}', {}, "the format is not recognised"),
    ("a.json", "[" * 100000, {}, "nested too deeply"),
    ("a.json", '{"_via_settings": {}}', {}, "VIA 2 project of images"),
    ("a.csv", "# CSV_HEADER = metadata_id,file_list\n", {}, "save its project as JSON"),
    ("a.xml", "<annotations><track>", {}, "a.xml, line 1: broken XML"),
    ("a.xml", "<html></html>", {}, "XML of <html> is not read"),
    ("a.eaf", BOMB + "<a>&d;</a>", {}, "a.eaf, line 1: a document type is not read"),
    ("a.zip.csv", b"PK\x03\x04", {}, "the archive is damaged"),
    ("a.TextGrid", b"ooBinaryFile\x08TextGrid", {}, "save it as a text file in Praat"),
    (
        "a.csv",
        csv("eat,1.5,2"),
        {"format": "excel"},
        "--format=excel is not one of frames",
    ),
    ("a.csv", csv("eat,1.5,2"), {"tier": "x"}, "--tier=x: the format csv has no tiers"),
    ("a.eaf", EAF, {"columns": {"label": "x"}}, "the format elan has no columns"),
    ("a.csv", csv("eat,1.5,2"), {"fps": 0.0}, "--fps=0 is no rate"),
    # tables
    ("a.csv", csv("eat,3.5,2"), {}, "a.csv, line 2: 'eat' ends at 2, before.* 3.5"),
    ("a.csv", csv("eat,-1.5,2"), {}, "line 2: the start -1.5 is negative"),
    ("a.csv", csv("eat,nan,2", "eat,1.5,2"), {}, "line 2 .start.: 'nan' is no time"),
    ("a.csv", csv("a,1,2.5", "b,soon,3", *["a,1,2"] * 8), {}, "line 3 .start.: 'soon'"),
    ("a.csv", csv("a,1:75.0,2:00"), {}, "'1:75.0' has 75 seconds"),
    ("a.csv", csv("a,0:75:10,1:20:00"), {}, "'0:75:10' has 75 minutes"),
    ("a.csv", csv("a,00:00:01:12,00:00:02:00"), {}, "counts frames.*--fps=25"),
    (
        "a.csv",
        csv("a,0:00:01:12,0:00:02:00"),
        {"fps": 10},
        "frame 12.*not below --fps=10",
    ),
    ("a.csv", csv("a,1.5,"), {}, "line 2: the end is missing"),
    ("a.csv", csv(",1.5,2"), {}, "line 2: the segment has no label"),
    ("a.csv", csv(), {"format": "csv"}, "the table has no rows"),
    ("a.csv", csv("open, shut,1.5,2"), {}, "line 2: the row has 4 cells, others 3"),
    ("a.csv", csv('"eat,1.5,2'), {}, "line 2: unexpected end of data"),
    ("a.csv", csv("a,1.5,2"), {"columns": {"label": "lable"}}, "did you mean 'label'"),
    (
        "a.csv",
        csv("a,1.5,2"),
        {"columns": {"what": "x"}},
        "--columns=what=...: there are",
    ),
    ("a.csv", csv("a,1.5,2"), {"columns": {"unit": "h"}}, "unit=h: choose of seconds"),
    (
        "a.csv",
        csv("a,1.5,2"),
        {"columns": {"unit": "frames"}},
        "'1.5' is no whole number",
    ),
    (
        "a.csv",
        "a,1.5,2.5,9\nb,2.5,3.5,9\n",
        {},
        "start or end among number 1, number 2",
    ),
    ("a.csv", "a,b,1.5,2.5\nc,d,2.5,3.5\n", {}, "recognised as label among number 1"),
    (
        *("a.csv", "label,start_s,end_frame\na,1.5,40\n", {}),
        "frames and times are mixed: 'start_s' in seconds, 'end_frame' in frames",
    ),
    ("a.csv", "label,start,duration\na,1.5,-1\n", {}, "the duration -1 is negative"),
    (
        "a.csv",
        "label,a,a,end\nx,1,2,2.5\n",
        {"columns": {"start": "a"}},
        "2 columns have",
    ),
    (
        "a.csv",
        "video,label,start,end\n,a,1.5,2\n",
        {},
        "line 2: the row names no video",
    ),
    # the others, in the order of FORMATS
    (
        "a.txt",
        "a\na\n\na\na\na\n",
        {"format": "frames"},
        "a.txt, line 3: the line is bl",
    ),
    (
        "a.eaf",
        annotating.elan(EARLY),
        {},
        "a.eaf, line 9 .tier 'action', a0.: 'eat' ends",
    ),
    ("a.eaf", annotating.elan(NEGATIVE), {}, "line 9.*-1 is negative"),
    ("a.eaf", EAF, {"tier": "Action"}, "no tier 'Action'; --tier: 'action' .2."),
    ("a.eaf", annotating.elan([]), {}, "no tier has a segment"),
    (
        "a.eaf",
        changed(EAF, ("milliseconds", "NTSC-frames")),
        {},
        "NTSC-frames is not read",
    ),
    ("a.TextGrid", annotating.textgrid(EARLY), {}, "line 22 .*'eat' ends at 2, before"),
    ("a.TextGrid", GRID[: len(GRID) // 2], {}, "the file ends where a (number|text)"),
    (
        "a.TextGrid",
        changed(GRID, ("size = 1", "size = x")),
        {},
        "where a number is due",
    ),
    ("a.TextGrid", changed(GRID, ('"TextGrid"', '"Pitch"')), {}, "holds a 'Pitch'"),
    ("a.txt", "3.5\t2.5\teat\n", {}, "a.txt, line 1: 'eat' ends at 2.5"),
    ("a.txt", "1.5\t2.5\teat\n3.5 4.5 eat\n", {}, "line 2: '3.5 4.5 eat' is not"),
    ("a.srt", annotating.srt(EARLY), {}, "a.srt, line 2: 'eat' ends at 2, before"),
    (
        "a.srt",
        changed(SRT, ("00:00:02,000 --> ", "00:0x:02 --> ")),
        {},
        "line 6: '00:0x",
    ),
    ("a.srt", changed(SRT, ("\neat\n", "\n\n")), {}, "line 2: the cue has no text"),
    (
        "a.srt",
        changed(SRT, ("2\n00", "two\n00")),
        {},
        "line 6: the cue has no text, no n",
    ),
    ("a.vtt", annotating.vtt(EARLY), {}, "a.vtt, line 3: 'eat' ends at 2, before"),
    ("a.vtt", "WEBVTT\n", {}, "the file has no cues"),
    ("a.vtt", changed(VTT, ("-->", "->")), {}, "line 3: .* is not 'start --> end'"),
    (
        "a.boris",
        annotating.boris(NEGATIVE),
        {},
        "observation 'morning', event 1.*negative",
    ),
    (
        "a.boris",
        changed(BORIS, ('[3.25, "", "cut", "", ""]', "[1]")),
        {},
        "event 4 is not",
    ),
    ("a.boris", changed(BORIS, ("3.25", "NaN")), {}, "the (end|start) nan is no time"),
    (
        "a.boris",
        changed(BORIS, (', [3.25, "", "cut", "", ""]', "")),
        {},
        "is not stopped",
    ),
    (
        "a.boris",
        changed(BORIS, ('"code": "cut"', '"code": "cat"')),
        {},
        "'cut' is not in",
    ),
    (
        "a.tsv",
        changed(TABULAR, ("STOP", "START")),
        {},
        "'eat' starts again without a STOP",
    ),
    (
        "a.tsv",
        changed(TABULAR, ("START", "STOP")),
        {},
        "line 2: 'eat' stops without a ST",
    ),
    (
        *("a.tsv", changed(TABULAR, ("3.250\tfilms/day1", "3.250\tfilms/day2")), {}),
        "line 5: the observation 'morning' plays several files",
    ),
    (
        "a.json",
        annotating.via(EARLY),
        {},
        "a.json, entry '1_0': 'eat' ends at 2, before",
    ),
    (
        "a.json",
        changed(VIA, ("2.0, 3.25", '2.0, "x"')),
        {},
        "entry '1_1': 'x' is no num",
    ),
    ("a.json", changed(VIA, ('"vid": "1"', '"vid": "9"')), {}, "'9' is no JSON object"),
    (
        "a.xml",
        annotating.cvat([("eat", 9, 3)]),
        {},
        "line 6: frame 3 of a track comes after 9",
    ),
    (
        "a.xml",
        changed(CVAT, ('frame="20"', 'frame="x"')),
        {},
        "line 6: frame='x' is no",
    ),
    ("a.xml", "<annotations></annotations>", {}, "there are no tracks and no tags"),
    (
        "a.json",
        annotating.label_studio([("eat", 9, 3)]),
        {},
        "region 1: 'eat' ends at 3",
    ),
    ("a.json", changed(STUDIO, ('"start": 2', '"start": 0')), {}, "frame 0 is below 1"),
    (
        "a.json",
        changed(STUDIO, ("[20]" if "[20]" in STUDIO else "20", "null")),
        {},
        "None",
    ),
    (
        "a.csv",
        changed(DATAVYU, ("02:000,00", "04:000,00")),
        {},
        "line 4 .*ends at 3.249, before",
    ),
    (
        "a.csv",
        changed(DATAVYU, ("00:00:03:249", "00:00:00:000")),
        {},
        "02:000 is not set",
    ),
    ("a.csv", changed(DATAVYU, ("00:00:03:249", "soon")), {}, "line 4: .* no cell"),
    (
        "a.json",
        annotating.activitynet(EARLY),
        {},
        "video 'day1', annotation 1: 'eat' ends",
    ),
    (
        "a.json",
        changed(NET, ("0.5", "NaN")),
        {},
        "annotation 1: the start nan is no time",
    ),
    (
        "a.json",
        changed(NET, ("[0.5, 2.0]", "[2.0]")),
        {},
        "annotation 1: 'segment' is n",
    ),
    (
        "a.csv",
        annotating.epic([("eat pie", 3.5, 2.0)]),
        {},
        "a.csv, line 2: 'eat pie' en",
    ),
    (
        "a.csv",
        changed(EPIC, ("00:00:00.500", "soon")),
        {},
        "line 2 .start.: 'soon' is no",
    ),
    ("a.csv", EGTEA, {"format": "epic"}, "the columns 'video_id', .* are missing"),
    ("a.csv", annotating.egtea(EARLY), {}, "a.csv, line 2: 'eat' ends at 2, before"),
    ("a.txt", "1-30 SIL\n31-20 take\n", {}, "a.txt, line 2: 'take' ends at 20"),
    ("a.txt", "0-30 SIL\n", {}, "a.txt, line 1: frame 0 is below 1"),
    ("a.txt", "1-30 SIL\n31 take\n", {}, "line 2: '31 take' is not 'FIRST-LAST label'"),
]


@pytest.mark.parametrize(
    ("name", "content", "options", "message"), FAULTS, ids=[f[3] for f in FAULTS]
)
def test_a_fault_is_named(name, content, options, message):
    with pytest.raises(InputError, match=message) as error:
        annotating.read(content, name, **options)
    text = str(error.value)
    assert "\n" not in text and len(text) < 400
    assert name in text or "--" in text


def test_a_long_text_is_cut_off():
    with pytest.raises(InputError, match="xxx...' ends at 1") as error:
        annotating.read(csv(f"{'x' * 5000},2.5,1"), "a.csv")
    assert len(str(error.value)) < 200


def test_control_characters_are_named():
    text = NET.replace('"eat"', '"eat\\u0000"')
    with pytest.raises(InputError, match="'eat.x00' holds a control character"):
        annotating.read(text, "a.json")


def test_divided_annotations_without_times_are_named():
    reference = (
        '<ANNOTATION><REF_ANNOTATION ANNOTATION_ID="b{}" ANNOTATION_REF="a0">'
        "<ANNOTATION_VALUE>{}</ANNOTATION_VALUE></REF_ANNOTATION></ANNOTATION>"
    )
    tier = "".join(reference.format(k, word) for k, word in enumerate(("now", "here")))
    text = EAF.replace("</TIER>", f'</TIER><TIER TIER_ID="words">{tier}</TIER>')
    with pytest.raises(InputError, match="b0 and b1 divide a0 without times of their"):
        annotating.read(text, "a.eaf", tier="words")


def test_a_segment_of_no_length_is_returned():
    (found,) = annotating.read(csv("clap,1.5,1.5", "eat,2,3.5"), "a.csv")
    assert triples(found) == [("clap", 1.5, 1.5), ("eat", 2.0, 3.5)]


def test_two_annotations_of_a_task_are_named():
    tasks = json.loads(STUDIO)
    tasks[0]["annotations"] *= 2
    with pytest.raises(InputError, match=r"entry 1 \(task 5\) has 2 annotations"):
        annotating.read(json.dumps(tasks), "a.json")


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(MissingInputError, match="gone.csv does not exist"):
        read_annotations(tmp_path / "gone.csv")
    with pytest.raises(MissingInputError, match="holds no file that ends with .boris"):
        read_annotations(tmp_path)


def test_a_spreadsheet_and_other_archives_are_named(tmp_path):
    import zipfile

    for name, inner, message in [
        ("a.xlsx", "xl/workbook.xml", "a spreadsheet is not read; save it as CSV"),
        ("b.opf", "annotations.xml", "an archive of annotations.xml.*unpack it"),
    ]:
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr(inner, "x")
        with pytest.raises(InputError, match=f"{name}: {message}"):
            read_annotations(tmp_path / name)
