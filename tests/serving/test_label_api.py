"""Every route of a labelling server, over the network."""

import errno
import fractions
import os
import struct

import cv2
import numpy as np
import pytest

from data_pipeline import annotations, video
from svtas_jax.serving.labelling import making, packs

STAMPS = [0, 1, 2, 6, 7, 8, 9, 15, 16, 17, 18, 19]  # of 30 a second: a varying rate
PAGES = (
    *("/", "/style.css", "/draw.js", "/icon.svg", "/label.css", "/label.js"),
    *("/label_edit.js", "/label_keys.js", "/label_list.js", "/label_outbox.js"),
    *("/label_player.js", "/label_sure.js", "/label_timeline.js", "/label_work.js"),
)


@pytest.fixture(scope="module")
def root(tmp_path_factory, films):
    """A folder of a video of varying rate, a turned HEVC one and a broken one."""
    root = tmp_path_factory.mktemp("label") / "küche 厨房"
    (root / "Videos").mkdir(parents=True)
    unit = fractions.Fraction(1, 30)
    films.write(
        root / "Videos" / "vary ü#1.mp4", range(12), stamps=STAMPS, time_base=unit
    )
    films.write(
        root / "Videos" / "phone.mov",
        range(6),
        codec="libx265",
        options={"x265-params": "log-level=none"},
        size=(640, 1136),
        turn=(-90, False, False),
    )
    (root / "Videos" / "broken.mp4").write_text("no video")
    for ending in ("mp4", "avi"):
        (root / "Videos" / f"twice.{ending}").touch()
    (root / "Videos" / "a\nb.mp4").touch()
    return root


@pytest.fixture(scope="module")
def client(root, tools, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("pictures")))
        with tools.labelling(root) as client:
            tools.until(lambda: all(v["counted"] for v in usable(client)))
            client.post("/label/classes", json={"name": "nothing"})
            client.post("/label/classes", json={"name": "Öl gießen"})
            yield client


def videos(client):
    return {v["name"]: v for v in client.get("/label/videos").json()["videos"]}


def usable(client):
    found = videos(client)
    return [found["vary ü#1"], found["phone"]]


def path_of(client, name="vary ü#1"):
    return f"/label/videos/{videos(client)[name]['id']}"


def save(client, rows, *, base=None, edit="e", name="vary ü#1", run=""):
    path = path_of(client, name)
    base = client.get(path).json()["token"] if base is None else base
    body = {"base": base, "edit": edit, "segments": rows, "run": run}
    return client.post(path, json=body)


def pictures(client, path, first, count):
    data = client.get(f"{path}/pictures?first={first}&count={count}").content
    (number,) = struct.unpack_from("<I", data)
    sizes = struct.unpack_from(f"<{number}I", data, 4)
    found, at = [], 4 + 4 * number
    for size in sizes:
        jpeg = np.frombuffer(data[at : at + size], np.uint8)
        found.append(cv2.imdecode(jpeg, cv2.IMREAD_COLOR)[..., ::-1])
        at += size
    assert at == len(data)
    return found


@pytest.mark.parametrize("path", PAGES)
def test_the_page_loads_nothing_from_elsewhere(client, path):
    answer = client.get(path)
    assert answer.status_code == 200
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    text = answer.text.replace("http://www.w3.org/2000/svg", "")
    assert "http:" not in text and "https:" not in text and "style=" not in text


def test_a_broken_video_is_shown_with_its_reason_and_others_go_on(client):
    found = videos(client)
    assert "damaged, cut off or not a video" in found["broken"]["problem"]
    assert "exists 2 times" in found["twice"]["problem"]
    assert "rename the file" in found["a\nb"]["problem"]
    assert found["phone"]["made"] == 6 and not found["phone"]["problem"]
    since = client.get("/label/videos").json()["revision"]
    assert client.get(f"/label/videos?since={since}").json()["videos"] == []
    assert len(client.get("/label/videos?since=999").json()["videos"]) == 5
    assert client.get("/label/videos?since=x").status_code == 422


def test_pictures_and_times_are_those_of_the_frames_as_training_counts(
    client, root, films
):
    path = path_of(client)
    shown = pictures(client, path, 0, 40)
    assert [films.number(picture) for picture in shown] == list(range(12))
    assert len(pictures(client, path, 10, 5)) == 2 and not pictures(client, path, 12, 5)
    times = np.frombuffer(client.get(f"{path}/times").content, "<f8")
    expected = video.frame_times(root / "Videos" / "vary ü#1.mp4")
    assert times.tolist() == expected.tolist()
    assert times == pytest.approx(np.array(STAMPS) / 30)
    rest = np.frombuffer(client.get(f"{path}/times?first=9").content, "<f8")
    assert rest.tolist() == times[9:].tolist()


def test_pictures_of_a_phone_are_upright_and_small(client, root):
    path = path_of(client, "phone")
    (shown,) = pictures(client, path, 2, 1)
    assert shown.shape == (packs.MOST_SIDE, 270, 3)
    (full,) = video.read_frames(root / "Videos" / "phone.mov", [2])
    small = cv2.resize(full, (270, packs.MOST_SIDE), interpolation=cv2.INTER_AREA)
    assert np.abs(small.astype(int) - shown).mean() < 4


def test_labels_are_saved_in_the_common_layout(client, root):
    answer = save(client, [[0, 5, "nothing", False], [5, 12, "Öl gießen", False]])
    assert answer.status_code == 200 and answer.json()["complete"]
    labels = root / "groundTruth" / "vary ü#1.txt"
    classes = annotations.read_mapping(root / "mapping.txt")
    assert classes == ("nothing", "Öl gießen")
    assert annotations.read_labels(labels, classes).tolist() == [0] * 5 + [1] * 7
    assert videos(client)["vary ü#1"]["state"] == "done"
    mark = videos(client)["vary ü#1"]["mark"]
    assert answer.json()["mark"] == mark
    answer = save(client, [[0, 5, "nothing", False]])
    assert not answer.json()["complete"] and not labels.exists()
    found = videos(client)["vary ü#1"]
    assert (found["state"], found["frames"]) == ("touched", 5)
    assert found["mark"] != mark
    save(client, [])
    assert videos(client)["vary ü#1"]["state"] == "unlabelled"


def test_a_second_window_gets_the_labels_of_the_first(client):
    base = client.get(path_of(client)).json()["token"]
    rows = [[0, 5, "nothing", False]]
    first = save(client, rows, base=base, edit="first")
    again = save(client, rows, base=base, edit="first")
    assert again.status_code == 200 and again.json() == first.json()
    second = save(client, [[0, 6, "nothing", False]], base=base, edit="second")
    assert second.status_code == 409
    found = second.json()
    assert "another person" in found["error"] and found["segments"] == rows
    base = found["token"]
    kept = save(client, [[0, 6, "nothing", False]], base=base, edit="second")
    assert kept.status_code == 200 and kept.json()["version"] == found["version"] + 1


def test_a_file_changed_by_another_program_is_a_conflict(client, root):
    base = save(client, [[0, 12, "nothing", False]], edit="whole").json()["token"]
    labels = root / "groundTruth" / "vary ü#1.txt"
    labels.write_text("Öl gießen\n" * 12, encoding="utf-8")
    answer = save(client, [[0, 3, "nothing", False]], base=base, edit="late")
    assert answer.status_code == 409
    assert "changed by another program" in answer.json()["error"]
    assert answer.json()["segments"] == [[0, 12, "Öl gießen", False]]
    assert answer.json()["kept"] == [[0, 12, "nothing", False]]
    labels.write_text("Öl\n" * 12, encoding="utf-8")
    answer = client.get(path_of(client))
    assert answer.status_code == 422 and "line 1: class 'Öl'" in answer.json()["error"]
    labels.unlink()


def test_classes_are_added_and_renamed_with_their_labels(client, root):
    name = "vary ü#1"
    base = client.get(path_of(client)).json()["token"]
    base = save(client, [[0, 12, "nothing", False]], base=base, edit="r").json()[
        "token"
    ]
    answer = client.post("/label/classes", json={"name": "löschen"})
    assert answer.status_code == 201
    assert answer.json()["classes"][-1]["name"] == "löschen"
    answer = client.post(
        "/label/classes/rename", json={"old": "nothing", "new": "背景 nichts"}
    )
    assert answer.status_code == 200
    text = (root / "groundTruth" / f"{name}.txt").read_text("utf-8")
    assert text == "背景 nichts\n" * 12
    opened = client.get(path_of(client)).json()
    assert opened["segments"] == [[0, 12, "背景 nichts", False]]
    assert not opened["notice"] and opened["token"] != base
    for old, new in (("背景 nichts", "LÖSCHEN"), ("none", "a"), ("löschen", " ")):
        answer = client.post("/label/classes/rename", json={"old": old, "new": new})
        assert answer.status_code == 422 and answer.json()["error"]
    client.post("/label/classes/rename", json={"old": "背景 nichts", "new": "nothing"})


@pytest.mark.parametrize(
    "body, status",
    [
        ({"segments": [[0, 13, "nothing", False]]}, 422),
        ({"segments": [[0, 5, "unknown", False]]}, 422),
        ({"segments": "x"}, 422),
        ({"segments": [], "edit": "../x"}, 422),
        ({"segments": [], "base": 5}, 422),
        ({"segments": [], "base": "of another time"}, 409),
        ([], 422),
    ],
)
def test_what_cannot_be_saved_is_one_message(client, body, status):
    if isinstance(body, dict):
        token = client.get(path_of(client)).json()["token"]
        body = {"edit": "bad", "base": token, "run": "", **body}
    answer = client.post(path_of(client), json=body)
    assert answer.status_code == status and answer.json()["error"]


def test_a_full_disk_is_said_and_the_labels_stay(client, monkeypatch):
    base = save(client, [[0, 4, "nothing", False]], edit="a").json()["token"]

    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        answer = save(client, [[0, 8, "nothing", False]], base=base, edit="b")
    assert answer.status_code == 507
    assert "No space left on device; choose another --label" in answer.json()["error"]
    assert client.get(path_of(client)).json()["segments"] == [[0, 4, "nothing", False]]
    answer = save(client, [[0, 8, "nothing", False]], base=base, edit="b")
    assert answer.status_code == 200


def test_only_the_own_page_may_save(client):
    path, body = path_of(client), b'{"segments": []}'
    json = {"content-type": "application/json"}
    other = {**json, "origin": "http://elsewhere.example"}
    assert client.post(path, content=body, headers=other).status_code == 403
    assert client.post(path, content=body).status_code == 415
    assert client.post(path, content=b"{", headers=json).status_code == 422
    assert client.get("/label/videos/none").status_code == 404
    assert client.get(f"{path}/proposal").status_code == 404
    assert client.post("/label/classes", content=b" " * 17_000_000, headers=json)
    assert client.get("/sources").status_code == 404


def test_a_token_is_asked_for(root, tools, data_folder, tmp_path):
    folder = data_folder(tmp_path / "own")
    folder.add("a", 3)
    with tools.labelling(folder.root, token="a-long-secret") as client:
        assert client.get("/label/videos").status_code == 401
        assert client.get("/label/videos?token=a-long-secret").status_code == 200


def test_a_data_set_opens_as_it_is_and_pictures_are_made_once(
    tools, data_folder, tmp_path, monkeypatch
):
    folder = data_folder(tmp_path / "own")
    path = folder.add("a", 30)
    with tools.labelling(folder.root) as client:
        tools.until(lambda: videos(client)["a"]["counted"])
        assert video.is_counted(path)  # nobody decodes it again to count
        found = client.get(path_of(client, "a")).json()
        assert found["num_frames"] == 30 and found["complete"] and not found["notice"]
        assert [row[:2] for row in found["segments"][:2]] == [[0, 7], [7, 14]]
        assert videos(client)["a"]["state"] == "done"
    monkeypatch.setattr(packs, "make", None)  # not called again
    cache = making.cache_folder()
    assert len([*cache.iterdir()]) == 2
    folder.add("b", 20)
    with tools.labelling(folder.root) as client:
        assert videos(client)["a"]["counted"]
        tools.until(lambda: videos(client)["b"]["problem"])


def test_videos_that_come_and_go_are_seen(tools, data_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("svtas_jax.serving.labelling.state._SCAN_S", 0.0)
    folder = data_folder(tmp_path / "own")
    path = folder.add("a", 30)
    with tools.labelling(folder.root) as client:
        tools.until(lambda: videos(client)["a"]["counted"])
        folder.add("b", 20)
        tools.until(lambda: videos(client).get("b", {}).get("counted"))
        folder.add("a", 12)
        os.utime(path, ns=(1, 1))
        tools.until(lambda: videos(client)["a"]["made"] == 12)
        path.unlink()
        tools.until(lambda: len(client.get("/label/videos").json()["ids"]) == 1)
        assert len(pictures(client, path_of(client, "b"), 0, 99)) == 20
