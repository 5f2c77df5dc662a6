# SPDX-License-Identifier: Apache-2.0
"""What a process learns about its rank and device, and what it refuses."""

import json
import os

import pytest

from harness import environment
from harness.errors import UserError

NAMES = "RANK_ID RANK_SIZE RANK_TABLE_FILE RANK_ADDRESSES DEVICE_ID ASCEND_DEVICE_ID"


@pytest.fixture(autouse=True)
def _clean(monkeypatch):
    for name in NAMES.split():
        monkeypatch.delenv(name, raising=False)


def _table(path, *ranks):
    devices = [{"device_id": rank, "device_ip": "10.0.0.1", "rank_id": rank} for rank in ranks]
    table = {"status": "completed", "server_list": [{"server_id": "a", "device": devices}]}
    path.write_text(json.dumps(table))
    return str(path)


def test_without_an_environment_there_is_one_rank_on_device_0():
    assert environment.rank_and_size() == (0, 1)
    assert environment.device_id() == 0


def test_the_number_of_the_npu_goes_before_that_of_the_device(monkeypatch):
    monkeypatch.setenv("DEVICE_ID", "3")
    assert environment.device_id() == 3
    monkeypatch.setenv("ASCEND_DEVICE_ID", "5")
    assert environment.device_id() == 5


@pytest.mark.parametrize(
    ("rank", "size", "sentence"),
    [
        ("2", "2", "RANK_ID 2 with RANK_SIZE 2: it must be 0 to RANK_SIZE - 1"),
        ("1", "", "RANK_ID 1 with RANK_SIZE 1"),
        ("-1", "2", "the environment has RANK_ID=-1; it must be a whole number"),
        ("²", "4", "the environment has RANK_ID=²; it must be a whole number"),
        ("0", "two", "the environment has RANK_SIZE=two; it must be a whole number"),
    ],
)
def test_ranks_that_cannot_be_are_an_error(monkeypatch, rank, size, sentence):
    monkeypatch.setenv("RANK_ID", rank)
    monkeypatch.setenv("RANK_SIZE", size)
    with pytest.raises(UserError, match=sentence):
        environment.rank_and_size()


def test_every_rank_needs_an_address(monkeypatch):
    monkeypatch.setenv("RANK_ADDRESSES", "a:1,b:2")
    assert environment.addresses(2) == ("a:1", "b:2")
    with pytest.raises(UserError, match=r"RANK_SIZE 3 needs .* of as many ranks, not of 2"):
        environment.addresses(3)
    for wrong in ("a", "b:99999", "c:x", "a:1"):
        monkeypatch.setenv("RANK_ADDRESSES", "a:1," + wrong)
        with pytest.raises(UserError, match="RANK_ADDRESSES has %s; each must be" % wrong):
            environment.addresses(2)


def test_npus_need_a_rank_table_with_their_ranks(monkeypatch, tmp_path, capsys):
    with pytest.raises(UserError, match=r"need RANK_TABLE_FILE.*but it is not set; write one with"):
        environment.check_rank_table(0, 2)
    monkeypatch.setenv("RANK_TABLE_FILE", str(tmp_path / "none.json"))
    with pytest.raises(UserError, match=r"but it is .*none.json"):
        environment.check_rank_table(0, 2)
    monkeypatch.setenv("RANK_TABLE_FILE", _table(tmp_path / "table.json", "0", "1"))
    monkeypatch.setenv("DEVICE_ID", "1")
    environment.check_rank_table(1, 2)
    assert capsys.readouterr().out == ""
    monkeypatch.setenv("DEVICE_ID", "3")
    environment.check_rank_table(1, 2)
    assert "rank 1 takes device 3 (ASCEND_DEVICE_ID) where " in capsys.readouterr().out
    with pytest.raises(UserError, match="lists the ranks 0, 1; RANK_SIZE is 4 and this is rank 3"):
        environment.check_rank_table(3, 4)
    (tmp_path / "table.json").write_text("{")
    with pytest.raises(UserError, match=r"table.json is damaged"):
        environment.check_rank_table(1, 2)
    for text in ("[]", '{"status": "initializing"}'):
        (tmp_path / "table.json").write_text(text)
        with pytest.raises(UserError, match="is no completed rank table"):
            environment.check_rank_table(1, 2)


def test_who_leaves_the_group_is_alone(monkeypatch):
    for name, value in (("RANK_ID", "1"), ("RANK_SIZE", "2"), ("RANK_TABLE_FILE", "t.json")):
        monkeypatch.setenv(name, value)
    environment.leave_group()
    assert environment.rank_and_size() == (0, 1)
    assert "RANK_TABLE_FILE" not in os.environ


def test_a_way_to_communicate_that_is_not_known_is_an_error(monkeypatch):
    monkeypatch.setenv("RANK_COMMUNICATION", "mpi")
    with pytest.raises(UserError, match="RANK_COMMUNICATION=mpi: it must be nccl or ring"):
        environment.communication("gpu")
