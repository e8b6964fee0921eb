"""Every frame of every kind of file, forwards and back, and when it is shown."""

import contextlib

import numpy as np
import pytest

from data_pipeline import video

JUMPS = (0, 5, 6, 19, 3, 3, 4, 23, 0)
INTRA = {"g": "1"}
B_FRAMES = {"bf": "2", "g": "12"}
INTERLACED = dict(interlaced=True)
PAL = dict(size=(576, 720))

# name: file, codec, pixels, what else
FORMATS = {
    "H.264": ("a.mp4", "libx264", "yuv420p", {}),
    "H.264 with B-frames in AVI": ("a.avi", "libx264", "yuv420p", {}),
    "H.264 in MKV": ("a.mkv", "libx264", "yuv420p", {}),
    "H.264 in TS": ("a.ts", "libx264", "yuv420p", {}),
    "H.264 in FLV": ("a.flv", "libx264", "yuv420p", {}),
    "H.264 without container": ("a.h264", "libx264", "yuv420p", {}),
    "H.264 open GOP": (
        "a.mp4",
        "libx264",
        "yuv420p",
        dict(options={"x264-params": "open-gop=1:keyint=8:bframes=3:scenecut=0"}),
    ),
    "H.264 top field first": (
        "a.mp4",
        "libx264",
        "yuv420p",
        dict(options={"x264-params": "tff=1"}, **INTERLACED),
    ),
    "H.264 bottom field first": (
        "a.ts",
        "libx264",
        "yuv420p",
        dict(options={"x264-params": "bff=1"}, **INTERLACED),
    ),
    "H.264 10 bit": ("a.mp4", "libx264", "yuv420p10le", {}),
    "H.264 4:2:2": ("a.mp4", "libx264", "yuv422p", {}),
    "H.264 4:4:4 odd size": ("a.mp4", "libx264", "yuv444p", dict(size=(63, 97))),
    "H.264 RGB": ("a.mkv", "libx264rgb", "rgb24", {}),
    "H.264 gray": ("a.mp4", "libx264", "gray", {}),
    "H.264 full range": ("a.mp4", "libx264", "yuvj420p", {}),
    "H.264 fragmented": (
        "a.mp4",
        "libx264",
        "yuv420p",
        dict(muxer={"movflags": "frag_keyframe+empty_moov"}, options={"g": "6"}),
    ),
    "HEVC": (
        "a.mp4",
        "libx265",
        "yuv420p",
        dict(options={"x265-params": "log-level=none"}),
    ),
    "HEVC open GOP 10 bit": (
        "a.mkv",
        "libx265",
        "yuv420p10le",
        dict(options={"x265-params": "log-level=none:open-gop=1:keyint=8"}),
    ),
    "AV1": ("a.mp4", "libsvtav1", "yuv420p", dict(options={"preset": "12"})),
    "AV1 in WebM": ("a.webm", "libsvtav1", "yuv420p", dict(options={"preset": "12"})),
    "VP8": ("a.webm", "libvpx", "yuv420p", {}),
    "VP8 with hidden frames": (
        "a.webm",
        "libvpx",
        "yuv420p",
        dict(options={"auto-alt-ref": "1", "lag-in-frames": "12"}),
    ),
    "VP9": ("a.webm", "libvpx-vp9", "yuv420p", {}),
    "VP9 odd size": ("a.webm", "libvpx-vp9", "yuv420p", dict(size=(61, 95))),
    "VP9 alpha": ("a.webm", "libvpx-vp9", "yuva420p", {}),
    "MPEG-4": ("a.mp4", "mpeg4", "yuv420p", {}),
    "MPEG-4 with B-frames in AVI": (
        "a.avi",
        "mpeg4",
        "yuv420p",
        dict(options=B_FRAMES),
    ),
    "MPEG-4 interlaced": (
        "a.avi",
        "mpeg4",
        "yuv420p",
        dict(options=B_FRAMES, **INTERLACED),
    ),
    "MPEG-2 interlaced": (
        "a.mpg",
        "mpeg2video",
        "yuv420p",
        dict(options=B_FRAMES, **INTERLACED),
    ),
    "MPEG-2 in TS": ("a.ts", "mpeg2video", "yuv422p", dict(options=B_FRAMES)),
    "MPEG-1": ("a.mpg", "mpeg1video", "yuv420p", dict(options=B_FRAMES)),
    "MJPEG": ("a.avi", "mjpeg", "yuvj420p", {}),
    "MJPEG 4:2:2 odd size in MOV": (
        "a.mov",
        "mjpeg",
        "yuvj422p",
        dict(size=(63, 95)),
    ),
    "ProRes": ("a.mov", "prores_ks", "yuv422p10le", {}),
    "ProRes 4444 with alpha": ("a.mov", "prores_ks", "yuva444p10le", {}),
    "ProRes interlaced": ("a.mov", "prores_ks", "yuv422p10le", INTERLACED),
    "DV": ("a.avi", "dvvideo", "yuv420p", PAL),
    "DV without container": ("a.dv", "dvvideo", "yuv420p", PAL),
    "DNxHD": (
        "a.mov",
        "dnxhd",
        "yuv422p",
        dict(options={"profile": "dnxhr_lb"}, size=(288, 320)),
    ),
    "FFV1 16 bit": ("a.mkv", "ffv1", "gray16le", {}),
    "Huffyuv": ("a.avi", "huffyuv", "yuv422p", {}),
    "raw RGB": ("a.avi", "rawvideo", "bgr24", {}),
    "PNG with alpha": ("a.mov", "png", "rgba", {}),
    "QuickTime animation with alpha": ("a.mov", "qtrle", "argb", {}),
    "GIF": ("a.gif", "gif", "rgb8", {}),
    "APNG": ("a.apng", "apng", "rgb24", {}),
    "WMV": ("a.wmv", "wmv2", "yuv420p", {}),
    "H.263 in FLV": ("a.flv", "flv", "yuv420p", {}),
    "with sound": ("a.mp4", "libx264", "yuv420p", dict(sound=True)),
}


@pytest.mark.parametrize("name", FORMATS)
def test_every_frame_is_found_forwards_and_back(name, tmp_path, films):
    file, codec, pix_fmt, more = FORMATS[name]
    path = films.write(tmp_path / file, range(24), codec=codec, pix_fmt=pix_fmt, **more)
    assert video.count_frames(path) == 24
    info = video.probe_video(path)
    assert info.num_frames in (0, 24)
    assert info.fps == pytest.approx(25, rel=0.01)
    assert (info.height, info.width) == more.get("size", (64, 96))
    with contextlib.closing(video.FrameReader(str(path))) as reader:
        numbers = [films.number(frame) for frame in reader.frames(range(24))]
        assert numbers == list(range(24))
        assert tuple(films.number(frame) for frame in reader.frames(JUMPS)) == JUMPS
    np.testing.assert_allclose(video.frame_times(path), np.arange(24) / 25, atol=6e-3)
