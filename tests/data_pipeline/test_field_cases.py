"""Files as they come from the field: covers, odd clocks, turned and damaged ones."""

import contextlib
import fractions
import gc
import os

import av
import numpy as np
import pytest

from data_pipeline import video
from svtas_jax.errors import DamagedVideoError, InputError

Rate = fractions.Fraction


def read_all(path):
    """Returns the pictures of every frame."""
    with contextlib.closing(video.FrameReader(str(path))) as reader:
        return [reader.frame(index) for index in range(video.count_frames(path))]


@pytest.mark.parametrize(
    ("file", "num_frames", "fps", "end_s"),
    [
        ("interl.mp4", 90, 15, 89 / 15),
        ("coverfirst.mkv", 90, 15, 5.933),
        ("half.mp4", 45, 7.5, 44 / 7.5),
        ("vfr.mp4", 90, 9, 10.3),
        ("browser1k.webm", 90, 30.09, 2.942),
        ("gap.mp4", 90, 15, 155.933),
        ("trim.mp4", 49, 30, 1.6),
    ],
)
def test_files_from_the_field_are_whole(cases, file, num_frames, fps, end_s):
    path = cases / file
    assert video.count_frames(path) == num_frames
    info = video.probe_video(path)
    assert info.fps == pytest.approx(fps, rel=2e-3)
    assert (info.height, info.width) == (96, 128)
    assert info.num_frames in (0, num_frames)
    assert info.hidden_frames == (17 if file == "trim.mp4" else 0)
    times = video.frame_times(path)
    assert times.shape == (num_frames,) and times.dtype == np.float64
    assert times[0] == 0 and times[-1] == pytest.approx(end_s, abs=1e-3)
    assert (np.diff(times) > 0).all()


@pytest.mark.parametrize("file", ["interl.mp4", "coverfirst.mkv", "gap.mp4", "vfr.mp4"])
def test_pictures_from_the_field_count(cases, file):
    images = read_all(cases / file)
    for number, image in enumerate(images):
        assert 30 < image.mean() < 140
        assert _number(image) == number


def _number(image):
    """Reads the ten bars in the lower half of a file from the field."""
    bars = [image[52:92, 12 * bit + 3 : 12 * bit + 9] for bit in range(10)]
    return sum(int(bar.mean() > 127) << bit for bit, bar in enumerate(bars))


def test_a_variable_rate_has_its_own_seconds(cases):
    assert video.frame_times(cases / "vfr.mp4")[64] == pytest.approx(5.3)


@pytest.mark.parametrize(
    "rate", [Rate(24000, 1001), Rate(30000, 1001), 50, Rate(60000, 1001), 120, 480, 1]
)
@pytest.mark.parametrize("ending", ["mp4", "mkv", "avi"])
def test_rates_are_those_of_the_time_stamps(tmp_path, films, rate, ending):
    path = films.write(tmp_path / f"a.{ending}", range(12), rate=rate)
    assert video.probe_video(path).fps == pytest.approx(float(rate), rel=5e-3)
    expected = np.arange(12) / float(rate)
    np.testing.assert_allclose(video.frame_times(path), expected, atol=1.1e-3)


@pytest.mark.parametrize("ending", ["mp4", "mkv", "ts", "mov"])
@pytest.mark.parametrize("first", [0, 77, 90000])
def test_variable_rates_and_late_starts(tmp_path, films, ending, first):
    units = np.array([0, 4, 8, 12, 40, 44, 48, 160, 164, 168, 172, 360])
    path = films.write(
        tmp_path / f"a.{ending}",
        range(12),
        stamps=(units + first).tolist(),
        time_base=Rate(1, 100),
    )
    np.testing.assert_allclose(video.frame_times(path), units / 100, atol=1.1e-3)
    assert [films.number(image) for image in read_all(path)] == list(range(12))


def test_frames_before_zero_are_hidden_in_mp4_only(tmp_path, films):
    stamps = range(-10, 20)
    path = films.write(tmp_path / "a.mp4", range(30), stamps=stamps)
    assert [films.number(image) for image in read_all(path)] == list(range(10, 30))
    info = video.probe_video(path)
    assert (info.num_frames, info.hidden_frames) == (20, 10)
    path = films.write(tmp_path / "a.mkv", range(30), stamps=stamps)
    assert [films.number(image) for image in read_all(path)] == list(range(30))


def test_time_goes_on_where_recordings_are_joined(tmp_path, films):
    parts = [
        films.write(tmp_path / "a.ts", range(20)),
        films.write(tmp_path / "b.ts", range(20, 40), stamps=range(9000, 9020)),
        films.write(tmp_path / "c.ts", range(40, 60)),
    ]
    path = tmp_path / "all.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    assert [films.number(image) for image in read_all(path)] == list(range(60))
    np.testing.assert_allclose(video.frame_times(path), np.arange(60) / 25, atol=1e-3)


@pytest.mark.parametrize("more", [dict(size=(128, 192)), dict(pix_fmt="yuv422p10le")])
def test_pictures_keep_the_size_of_the_first(tmp_path, films, more):
    first = films.write(tmp_path / "a.ts", range(20))
    second = films.write(tmp_path / "b.ts", range(20, 40), **more)
    path = tmp_path / "all.ts"
    path.write_bytes(first.read_bytes() + second.read_bytes())
    images = read_all(path)
    assert {image.shape for image in images} == {(64, 96, 3)}
    assert [films.number(image) for image in images] == list(range(40))
    with contextlib.closing(video.FrameReader(str(path))) as reader:
        assert films.number(reader.frame(30)) == 30  # the first one was not converted
        assert reader.frame(30).shape == (64, 96, 3)


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
@pytest.mark.parametrize("flips", [(False, False), (True, False), (False, True)])
def test_pictures_are_turned_as_players_do(tmp_path, films, degrees, flips):
    path = films.write(tmp_path / "a.mp4", [37], turn=(degrees, *flips))
    shown = np.rot90(films.picture(37), degrees // 90)  # counter-clockwise
    shown = shown[:, ::-1] if flips[0] else shown
    shown = shown[::-1] if flips[1] else shown
    image = video.read_frames(path, [0])[0]
    info = video.probe_video(path)
    assert image.shape == shown.shape == (info.height, info.width, 3)
    assert np.abs(image.astype(int) - shown).mean() < 6


@pytest.mark.parametrize(
    ("pix_fmt", "level"), [("yuv420p", 126), ("yuvj420p", 110), ("gray", 110)]
)
def test_range_is_that_of_the_tags(tmp_path, pix_fmt, level):
    """Luma 124 of 16..235 is 126 of 0..255; in full range 110 stays 110."""
    luma = {"yuv420p": 124}.get(pix_fmt, 110)
    path = _grey_film(tmp_path / "a.mkv", pix_fmt, luma, {})
    assert abs(int(video.read_frames(path, [0])[0, 8, 8, 0]) - level) <= 1


@pytest.mark.parametrize(
    ("tags", "green"), [({}, 32), ({"colorspace": "1"}, 58), ({"colorspace": "6"}, 32)]
)
def test_matrix_is_that_of_the_tags(tmp_path, tags, green):
    """Y 81, Cb 90, Cr 240 are red by BT.601, and a little green besides by BT.709."""
    path = _grey_film(tmp_path / "a.mkv", "yuv420p", 81, tags, chroma=(90, 240))
    red, found, _ = video.read_frames(path, [0])[0, 8, 8].astype(int)
    assert red > 240
    assert (found < 10) == (green == 32)


@pytest.mark.parametrize("matrix", [3, 8, 10])
def test_matrices_that_cannot_be_computed(tmp_path, matrix):
    tags = {"colorspace": str(matrix)}
    path = _grey_film(tmp_path / "a.mkv", "yuv420p", 124, tags)
    if matrix == 8:
        with pytest.raises(InputError, match="a.mkv: .*matrix 8 cannot be converted"):
            video.read_frames(path, [0])
    else:
        assert abs(int(video.read_frames(path, [0])[0, 8, 8, 0]) - 126) <= 1


def _grey_film(path, pix_fmt, luma, tags, chroma=(128, 128)):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25, options=tags)
        stream.height = stream.width = 16
        stream.pix_fmt = pix_fmt.replace("j", "")
        if "colorspace" in tags:
            stream.codec_context.colorspace = int(tags["colorspace"])
        if "j" in pix_fmt:
            stream.codec_context.color_range = 2
        frame = av.VideoFrame(16, 16, stream.pix_fmt)
        for plane, value in zip(frame.planes, (luma, *chroma), strict=False):
            plane.update(bytes([value]) * plane.buffer_size)
        frame.pts = 0
        if "j" in pix_fmt:
            frame.color_range = 2
        if "colorspace" in tags:
            frame.colorspace = int(tags["colorspace"])
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def _with_cover(path, film, films, cover_first, flags):
    """Copies a film and puts a cover beside it."""
    with av.open(str(film)) as source, av.open(str(path), "w") as target:
        kinds = ("cover", "film") if cover_first else ("film", "cover")
        streams = {}
        for kind in kinds:
            if kind == "film":
                streams[kind] = target.add_stream_from_template(source.streams.video[0])
            else:
                streams[kind] = target.add_stream("mjpeg", rate=1)
                streams[kind].height, streams[kind].width = 120, 160
                streams[kind].pix_fmt = "yuvj420p"
        for kind, flag in flags.items():
            streams[kind].disposition = flag
        frame = av.VideoFrame.from_ndarray(films.picture(255, 120, 160), "rgb24")
        frame.pts, frame.time_base = 0, Rate(1)
        target.mux(streams["cover"].encode(frame))
        target.mux(streams["cover"].encode(None))
        for packet in source.demux(source.streams.video[0]):
            if packet.size:
                packet.stream = streams["film"]
                target.mux(packet)
    return path


DEFAULT, COVER = av.stream.Disposition.default, av.stream.Disposition.attached_pic


@pytest.mark.parametrize("cover_first", [True, False])
@pytest.mark.parametrize(
    ("ending", "codec", "flags"),
    [
        ("mp4", "libx264", {"cover": COVER}),
        ("mkv", "libx264", {"cover": DEFAULT, "film": 0}),
        ("mkv", "mjpeg", {"cover": DEFAULT, "film": 0}),
        ("mov", "libx264", {"cover": 0, "film": DEFAULT}),
    ],
)
def test_a_cover_is_not_the_film(tmp_path, films, ending, codec, flags, cover_first):
    pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    film = films.write(tmp_path / "film.mkv", range(30), codec=codec, pix_fmt=pix_fmt)
    path = _with_cover(tmp_path / f"a.{ending}", film, films, cover_first, flags)
    assert [films.number(image) for image in read_all(path)] == list(range(30))
    assert video.probe_video(path).width == 96


@pytest.mark.parametrize("cover", [False, True])
def test_sound_alone_is_named(tmp_path, films, cover):
    path = tmp_path / "song.m4a"
    with av.open(str(path), "w", format="mp4") as container:
        track = container.add_stream("aac", rate=8000)
        if cover:
            stream = container.add_stream("mjpeg", rate=1)
            stream.height = stream.width = 64
            stream.pix_fmt, stream.disposition = "yuvj420p", COVER
            frame = av.VideoFrame.from_ndarray(films.picture(1, 64, 64), "rgb24")
            frame.pts, frame.time_base = 0, Rate(1)
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        films.silence(container, track, 1.0)
    expected = "only sound and a cover picture" if cover else "only sound;"
    with pytest.raises(InputError, match=f"song.m4a holds no video, {expected}"):
        video.probe_video(path)


@pytest.mark.parametrize(
    ("file", "codec", "pix_fmt"),
    [
        ("a.mp4", "libx264", "yuv420p"),
        ("a.mkv", "libx264", "yuv420p"),
        ("a.avi", "mjpeg", "yuvj420p"),
        ("a.gif", "gif", "rgb8"),
        ("a.ts", "libx264", "yuv420p"),
    ],
)
def test_one_frame_is_a_film(tmp_path, films, file, codec, pix_fmt):
    path = films.write(tmp_path / file, [201], codec=codec, pix_fmt=pix_fmt)
    assert [films.number(image) for image in read_all(path)] == [201]
    np.testing.assert_array_equal(video.frame_times(path), [0])


def _packets(path):
    with av.open(str(path)) as container:
        packets = [p for p in container.demux(video=0) if p.size]
        return [(p.pos, p.size) for p in packets]


@pytest.mark.parametrize(
    ("file", "codec", "pix_fmt"),
    [
        ("a.mp4", "libx264", "yuv420p"),
        ("a.mp4", "mpeg4", "yuv420p"),
        ("a.avi", "mpeg4", "yuv420p"),
        ("a.avi", "mjpeg", "yuvj420p"),
        ("a.mov", "png", "rgb24"),
        ("a.mov", "prores_ks", "yuv422p10le"),
    ],
)
def test_damage_inside_says_how_many_frames_came_before(
    tmp_path, films, file, codec, pix_fmt
):
    options = {"bf": "0", "g": "10"} if codec in ("libx264", "mpeg4") else {}
    path = films.write(
        tmp_path / file, range(60), codec=codec, pix_fmt=pix_fmt, options=options
    )
    begin, size = _packets(path)[23]
    data = bytearray(path.read_bytes())
    noise = np.random.default_rng(0).integers(0, 256, size, np.uint8)
    data[begin + size // 4 : begin + size] = noise[size // 4 :].tobytes()
    path.write_bytes(data)
    with pytest.raises(DamagedVideoError, match=f"{file} is damaged.*: 23 frames"):
        video.count_frames(path)
    reader = video.FrameReader(str(path), 60)
    numbers = [films.number(image) for image in reader.frames(range(23))]
    assert numbers == list(range(23))
    with pytest.raises(DamagedVideoError, match="23 frames of 60 expected"):
        reader.frame(23)
    with pytest.raises(DamagedVideoError, match="frames of 60 expected"):
        reader.frame(40)
    reader.close()
    with contextlib.closing(video.open_film(path, tolerant=True)) as decoder:
        assert len(list(decoder.frames())) >= 59
        assert decoder.num_damaged


@pytest.mark.parametrize(
    ("file", "codec", "muxer", "says_its_length"),
    [
        ("a.mp4", "libx264", {"movflags": "faststart"}, True),
        ("a.mp4", "libx264", {"movflags": "frag_keyframe+empty_moov"}, False),
        ("a.mkv", "libx264", {}, True),
        ("a.ts", "libx264", {}, False),
        ("a.mpg", "mpeg2video", {}, False),
        ("a.webm", "libvpx-vp9", {}, True),
        ("a.avi", "mpeg4", {}, True),
    ],
)
@pytest.mark.parametrize("share", [0.6, 0.8])
def test_a_file_that_is_cut_off_keeps_its_beginning(
    tmp_path, films, file, codec, muxer, says_its_length, share
):
    options = {} if codec == "libvpx-vp9" else {"bf": "0", "g": "10"}
    path = films.write(
        tmp_path / file, range(80), codec=codec, muxer=muxer, options=options
    )
    assert video.tail_is_readable(path)
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    images = read_all(path)
    assert 8 < len(images) < 79
    assert [films.number(image) for image in images] == list(range(len(images)))
    if says_its_length:
        assert not video.tail_is_readable(path)
    reader = video.FrameReader(str(path), 80)
    with pytest.raises(DamagedVideoError, match=f"{len(images)} frames of 80 expected"):
        reader.frame(79)
    reader.close()


@pytest.mark.parametrize("codec", ["libx264", "libx265", "mpeg2video"])
def test_a_recording_that_begins_between_key_frames(tmp_path, films, codec):
    options = {
        "libx264": {"x264-params": "open-gop=1:keyint=12:bframes=3:scenecut=0"},
        "libx265": {"x265-params": "log-level=none:open-gop=1:keyint=12:bframes=3"},
        "mpeg2video": {"g": "12", "bf": "2"},
    }[codec]
    path = films.write(tmp_path / "a.ts", range(100), codec=codec, options=options)
    data = path.read_bytes()
    path.write_bytes(data[len(data) * 2 // 5 // 188 * 188 :])
    numbers = [films.number(image) for image in read_all(path)]
    assert len(numbers) > 30
    assert numbers == list(range(numbers[0], 100))


@pytest.mark.parametrize(
    ("file", "codec", "tag", "name"),
    [
        ("a.mp4", "libx264", b"avc1", "tag avzz"),
        ("a.avi", "mpeg4", b"FMP4", "tag FMzz"),
        ("a.mkv", "libx264", b"V_MPEG4/ISO/AVC", "none"),
    ],
)
def test_a_codec_without_decoder_is_named(tmp_path, films, file, codec, tag, name):
    path = films.write(tmp_path / file, range(5), codec=codec)
    path.write_bytes(path.read_bytes().replace(tag, tag[:2].ljust(len(tag), b"z")))
    with pytest.raises(InputError, match=f"no decoder for its codec.*{name}") as caught:
        video.probe_video(path)
    assert not isinstance(caught.value, DamagedVideoError)


@pytest.mark.parametrize("seed", range(8))
def test_garbled_files_are_one_message(tmp_path, films, seed):
    path = films.write(tmp_path / "a.mp4", range(30))
    rng = np.random.default_rng(seed)
    data = np.frombuffer(path.read_bytes(), np.uint8).copy()
    places = rng.integers(0, len(data), (1, 20, 200, 2000)[seed % 4])
    data[places] = rng.integers(0, 256, len(places))
    path.write_bytes(data.tobytes())
    try:
        images = read_all(path)
    except InputError as error:
        assert "a.mp4" in str(error)
    else:
        assert 0 < len(images) <= 60


@pytest.mark.parametrize("content", [bytes(50000), b"\x1b[31m red \x1b[0m\n" * 999])
def test_what_is_no_video_is_named(tmp_path, content):
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    with pytest.raises(DamagedVideoError, match="a.mp4 is damaged.*0 frames"):
        video.probe_video(path)


def test_names_are_no_addresses_nor_patterns(tmp_path, films):
    path = films.write(tmp_path / "plain.mp4", range(4))
    for name in ("12:30 a.mp4", "http: b.mp4", "frame%03d.mp4", "[x] *?.mp4"):
        path = path.rename(tmp_path / name)
        assert video.count_frames(path) == 4


def test_notes_in_another_encoding_do_no_harm(tmp_path, films):
    path = films.write(tmp_path / "a.avi", range(4), codec="mpeg4")
    data = path.read_bytes()
    assert data.count(b"Lavf") == 1
    path.write_bytes(data.replace(b"Lavf", b"L\xe9vf"))
    assert video.count_frames(path) == 4


def test_files_are_closed_even_if_they_are_forgotten(tmp_path, films):
    path = films.write(tmp_path / "a.mp4", range(4))
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(path.read_bytes()[:900])
    before = len(os.listdir("/proc/self/fd"))
    gc.disable()
    try:
        for _ in range(50):
            video.read_frames(path, [2])
            video.FrameReader(str(path)).frame(1)
            with pytest.raises(InputError):
                video.probe_video(bad)
        assert len(os.listdir("/proc/self/fd")) < before + 10
    finally:
        gc.enable()
