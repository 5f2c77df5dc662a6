# SPDX-License-Identifier: Apache-2.0
"""The rank table of HCCL: what is written, and what is refused."""

import json
import os
import random
import subprocess
import sys

import pytest

from harness import environment
from harness.errors import UserError
from tools import rank_table

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
ADDRESSES = ["192.168.%d.%d" % (100 + i % 4, 101 + i // 4) for i in range(8)]


def run(folder, *words):
    """Starts the command in `folder` for the server 10.1.2.3."""
    command = [sys.executable, "-m", "tools.rank_table", "--server=10.1.2.3", *words]
    around = dict(os.environ, PYTHONPATH=ROOT)
    return subprocess.run(
        command, cwd=str(folder), env=around, capture_output=True, text=True, check=False
    )


def options(**values):
    return rank_table.RankTableOptions(**values)


def hccn_conf(folder, addresses=ADDRESSES):
    lines = ["# written by hccn_tool", "send_arp_status_0=1"]
    for device, address in enumerate(addresses):
        lines += ["address_%d=%s" % (device, address), "netmask_%d=255.255.255.0" % device]
    random.Random(0).shuffle(lines)
    path = folder / "hccn.conf"
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def test_eight_devices_of_hccn_conf_come_back_as_they_were(tmp_path, monkeypatch):
    done = run(tmp_path, "--devices=8", "--hccn_conf", hccn_conf(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    path = tmp_path / "rank_table_8p.json"
    table = json.loads(path.read_text())
    (server,) = table["server_list"]
    assert {key: table[key] for key in table if key != "server_list"} == {
        "server_count": "1",
        "status": "completed",
        "version": "1.0",
    }
    assert server["server_id"] == "10.1.2.3"
    assert [device["device_ip"] for device in server["device"]] == ADDRESSES
    for key in ("device_id", "rank_id"):
        assert [device[key] for device in server["device"]] == list("01234567")
    assert "export RANK_TABLE_FILE=%s\n" % path in done.stdout
    assert "bash test/train_full_8p.sh --data_path=FOLDER" in done.stdout
    monkeypatch.setenv("RANK_TABLE_FILE", str(path))
    for rank in range(8):
        environment.check_rank_table(rank, 8)  # what the trainings ask of it


def test_the_last_four_devices_are_ranks_0_to_3(tmp_path):
    words = ["--devices=4", "--first_device=4", "--device_ips=" + ", ".join(ADDRESSES[4:])]
    done = run(tmp_path, *words, "--output=a b/table.json")
    assert (done.returncode, done.stderr) == (0, "")
    assert "RANK_TABLE_FILE='%s'\n" % (tmp_path / "a b" / "table.json") in done.stdout
    assert "ASCEND_DEVICE_ID=4 bash test/train_full_8p.sh" in done.stdout
    assert "--rank_size=4" in done.stdout
    (server,) = json.loads((tmp_path / "a b" / "table.json").read_text())["server_list"]
    assert server["device"][1] == {
        "device_id": "5",
        "device_ip": ADDRESSES[5],
        "rank_id": "1",
    }


@pytest.mark.parametrize(("first", "count", "noted"), [(3, 2, True), (0, 3, True), (6, 2, False)])
def test_devices_that_are_not_linked_are_noted(tmp_path, first, count, noted):
    words = ["--devices=%d" % count, "--first_device=%d" % first]
    done = run(tmp_path, *words, "--hccn_conf", hccn_conf(tmp_path))
    assert done.returncode == 0
    assert ("note: servers with Ascend 910" in done.stderr) == noted


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--devices=9"], "--devices 9 from --first_device 0 on: a server has the devices 0 to 7"),
        (["--devices=0"], "--devices 0 is too small; it must be at least 1"),
        (["--devices=4", "--first_device=5"], "a server has the devices 0 to 7"),
        (["--devices=2", "--device_ips=1.2.3.4"], "--device_ips has 1 addresses for 2 devices"),
        (["--devices=1", "--device_ips=1.2.3.4,"], "--device_ips has 2 addresses for 1 devices"),
        (["--devices=1", "--device_ips=1.2.3"], "'1.2.3' is no IPv4 address of device 0"),
        (["--devices=1", "--device_ips=1.2.3.04"], "'1.2.3.04' is no IPv4 address of device 0"),
        (["--devices=1", "--device_ips=1.2.3.256"], "'1.2.3.256' is no IPv4 address"),
        (["--devices=1", "--device_ips=1.2.3.4", "--server=npu"], "'npu' is no IPv4 address of th"),
        (["--devices=1", "--device_ips=1.2.3.4", "--hccn_conf=x"], "give one of them"),
        (["--hccn_conf=missing"], "--hccn_conf missing cannot be read (No such file"),
        (["--devices=1", "--device_ips=1.2.3.4", "--output=."], "--output . cannot be written"),
        (["--device_ip=1.2.3.4"], "did you mean --device_ips?"),
    ],
)
def test_a_mistake_is_one_sentence_and_writes_nothing(tmp_path, words, sentence):
    done = run(tmp_path, *words)
    assert done.returncode in (1, 2)
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
    assert os.listdir(str(tmp_path)) == []


def test_what_was_there_stays_when_the_command_fails(tmp_path):
    table = tmp_path / "rank_table_1p.json"
    table.write_text("before")
    assert run(tmp_path, "--devices=1", "--device_ips=nothing").returncode == 1
    assert table.read_text() == "before"


@pytest.mark.parametrize("device", [0, 1])
def test_doubled_addresses_are_refused_from_either_source(tmp_path, device):
    doubled = [*ADDRESSES[:2], ADDRESSES[device], *ADDRESSES[3:]]
    sentence = "devices %d and 2 both have the address %s" % (device, ADDRESSES[device])
    for values in ({"device_ips": ",".join(doubled)}, {"hccn_conf": hccn_conf(tmp_path, doubled)}):
        with pytest.raises(UserError, match=sentence):
            rank_table.device_addresses(options(**values))


def test_only_the_devices_asked_for_need_an_address(tmp_path):
    path = hccn_conf(tmp_path, ADDRESSES[:6])
    with pytest.raises(UserError, match="has no line address_6, address_7; complete it"):
        rank_table.device_addresses(options(hccn_conf=path))
    found = rank_table.device_addresses(options(hccn_conf=path, devices=4, first_device=2))
    assert found == ADDRESSES[2:6]


def test_two_lines_for_one_device_are_refused(tmp_path):
    path = hccn_conf(tmp_path)
    with open(path, "a") as file:
        file.write("address_3 = 10.0.0.9\n")
    with pytest.raises(UserError, match="has two lines address_3"):
        rank_table.read_hccn_conf(path)


def test_a_picture_for_a_hccn_conf_is_refused(tmp_path):
    path = tmp_path / "hccn.conf"
    path.write_bytes(b"\x89PNG\r\n\xff\xfe")
    with pytest.raises(UserError, match="cannot be read \\(it is not text\\)"):
        rank_table.read_hccn_conf(str(path))
