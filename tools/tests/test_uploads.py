# SPDX-License-Identifier: Apache-2.0
"""Results on their way to a bucket: which files go, and in what state."""

import os
import sys
import threading
import time

import pytest
from modelarts.job import LIMIT_SECONDS, PLATFORM

from harness.buckets import LocalCopy, scan
from harness.uploads import Uploads


@pytest.fixture
def buckets(tmp_path, monkeypatch):
    """The folder that stands for the buckets of this test."""
    monkeypatch.setenv("BUCKETS", str(tmp_path / "buckets"))
    monkeypatch.syspath_prepend(PLATFORM)
    monkeypatch.delitem(sys.modules, "moxing", raising=False)
    (tmp_path / "buckets").mkdir()
    yield tmp_path / "buckets"
    sys.modules.pop("moxing", None)


def test_a_bucket_becomes_equal_to_the_visible_files_of_ones_own(tmp_path, buckets):
    out = buckets / "out"
    (out / "old").mkdir(parents=True)
    (out / "old" / "model-1.index").write_text("1")
    found = []
    with LocalCopy("obs://out", str(tmp_path / "cache"), "Workspace", 0, may_miss=True) as copy:
        rank0, rank1 = (Uploads(copy, "obs://out/", 0, 0, rank, 2) for rank in (0, 1))
        rank0.start()
        for name in ("a/b.txt", ".1-half.json", "a/.saving/model", "rank_1/log", "rank_12/log"):
            os.makedirs(os.path.dirname(os.path.join(copy.folder, name)), exist_ok=True)
            with open(os.path.join(copy.folder, name), "w") as stream:
                stream.write(name)
        os.remove(os.path.join(copy.folder, "old", "model-1.index"))
        for uploads in (rank0, rank1, rank1):
            found.append((uploads.upload(), sorted(scan(str(out)))))
        assert found == [(1, ["a/b.txt"])] + [(n, ["a/b.txt", "rank_1/log"]) for n in (1, 0)]
        with open(os.path.join(copy.folder, "a", "b.txt"), "a") as stream:
            stream.write(" and more")
        assert rank0.finish()
    assert (out / "a" / "b.txt").read_text() == "a/b.txt and more"
    assert [name[-5:] for name in os.listdir(str(tmp_path / "cache"))] == [".lock"]


def test_what_grows_while_a_copy_hangs_is_uploaded_as_it_was_and_the_rest_next_time(
    tmp_path, buckets
):
    (buckets / "trouble_out").write_text("hang ok")
    names = ["train_0.log", "run/log.jsonl", "logs/events.out.tfevents.1.host", "model-1.index"]
    with LocalCopy("obs://out", str(tmp_path / "cache"), "Workspace", 0, may_miss=True) as copy:
        uploads, counts = Uploads(copy, "obs://out", 0, 0), []
        uploads.start()
        paths = [os.path.join(copy.folder, name) for name in names]
        for path in paths:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w") as stream:
                stream.write("first\n")
        thread = threading.Thread(target=lambda: counts.append(uploads.upload()))
        thread.start()
        last = time.monotonic() + LIMIT_SECONDS
        while not (buckets / "calls").exists() and time.monotonic() < last:
            time.sleep(0.01)
        for path in paths[:3]:
            with open(path, "a") as stream:
                stream.write("second\n")
        (buckets / "go").write_text("")
        thread.join()
        assert counts == [4]
        assert [(buckets / "out" / name).read_text() for name in names] == ["first\n"] * 4
        assert uploads.finish()
    texts = ["first\nsecond\n"] * 3 + ["first\n"]
    assert [(buckets / "out" / name).read_text() for name in names] == texts
