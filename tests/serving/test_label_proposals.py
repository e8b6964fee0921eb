"""Pre-labels by a run: proposed, never truth before a person accepts them."""

import dataclasses
import shutil

import pytest

from svtas_jax.serving.labelling import proposals


@pytest.fixture(scope="module")
def root(tmp_path_factory, film):
    root = tmp_path_factory.mktemp("proposed")
    (root / "Videos").mkdir()
    shutil.copy(film, root / "Videos" / "a.avi")
    (root / "mapping.txt").write_text("0 background\n1 take\n2 stir\n")
    return root


def test_a_run_proposes_and_a_person_accepts(root, run, film, tools, tmp_path):
    with tools.labelling(root, run) as client:
        about = client.get("/label/videos").json()
        assert about["run"]["unknown"] == ["open jar", "gießen"]
        assert about["run"]["never"] == ["stir"]
        path = f"/label/videos/{about['ids'][0]}"

        def entry():
            return client.get("/label/videos").json()["videos"][0]

        tools.until(lambda: entry()["proposal"] == "ready" and entry()["counted"])
        assert entry()["state"] == "pre-labelled"
        found = client.get(f"{path}/proposal").json()
        expected = run.segment(film)
        assert [row[:3] for row in found["segments"]] == [
            [s.start_frame, s.end_frame, s.label] for s in expected.segments
        ]
        assert found["num_frames"] == 40 and found["steps"] == list(range(0, 40, 2))
        sure = expected.scores.max(axis=1)[::2] * 100
        assert found["sure"] == pytest.approx(sure, abs=0.51)
        assert client.get(path).json()["segments"] == []
        assert not [*(root / "groundTruth").iterdir()]
        for proposed, is_there in ((True, False), (False, True)):
            rows = [[0, 40, "take", proposed]]
            body = {"segments": rows, "edit": f"e{is_there}", "run": found["run"]}
            body["base"] = client.get(path).json()["token"]
            assert client.post(path, json=body).status_code == 200
            assert (root / "groundTruth" / "a.txt").exists() == is_there


def test_what_a_run_has_found_is_kept_as_long_as_it_is_the_same(root, run, monkeypatch):
    monkeypatch.setattr(type(run), "open_stream", lambda self, **options: None)
    folder = proposals.Folder(root)
    (video,) = folder.videos()
    same = proposals.Proposer(run, folder, lambda: True)
    assert same.read(video) is not None
    config = run.config.copy_and_resolve_references()
    variables = {**run.variables, "params": {**run.variables["params"], "x": 1.0}}
    other = dataclasses.replace(run, config=config, variables=variables)
    assert proposals.identity_of(other) != same.id
    file = folder.side / "proposals" / "a.json"
    file.write_text("{")
    assert same.read(video) is None


def test_a_broken_video_is_said_and_the_next_goes_on(root, run, tools, film, tmp_path):
    (tmp_path / "Videos").mkdir()
    (tmp_path / "Videos" / "a.avi").write_text("no video")
    shutil.copy(film, tmp_path / "Videos" / "b.avi")
    folder = proposals.Folder(tmp_path)
    broken, good = folder.videos()
    proposer = proposals.Proposer(run, folder, lambda: True)
    proposer.start()
    proposer.add(broken)
    proposer.add(good)
    tools.until(lambda: proposer.state(good) == "ready")
    assert "not a video" in proposer.state(broken)
    proposer.close()
