# SPDX-License-Identifier: Apache-2.0
"""Writes the rank table that HCCL reads: which NPUs of one server train together.

The addresses of the NPUs are those in the server's hccn.conf, or given with --device_ips.
"""

import dataclasses
import ipaddress
import os
import re
import shlex
import socket
import sys
from typing import Dict, List

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "shared"))

from harness.errors import UserError, run_program
from harness.files import write_json
from harness.options import option, parse

MOST = 8  # NPUs of a server
GROUP = 4  # of them are linked with each other directly
NOTE = (
    "note: servers with Ascend 910 link devices 0 to 3 and 4 to 7; there HCCL takes 1, 2 or 4 of "
    "one group, or all 8"
)


@dataclasses.dataclass(frozen=True)
class RankTableOptions:
    """The rank table."""

    devices: int = option(MOST, "how many NPUs, one for each rank", low=1, high=MOST)
    first_device: int = option(0, "the first NPU; the others follow it", low=0, high=MOST - 1)
    server: str = option("", "IPv4 address of the server (default: that of its name)")
    device_ips: str = option("", "IPv4 addresses of these NPUs, with commas between them")
    hccn_conf: str = option("/etc/hccn.conf", "file with the addresses of all NPUs of the server")
    output: str = option("", "file to write (default: rank_table_<devices>p.json)")

    def __post_init__(self):
        """Checks that there are as many devices."""
        if self.first_device + self.devices > MOST:
            text = "--devices %d from --first_device %d on: a server has the devices 0 to %d"
            raise ValueError(text % (self.devices, self.first_device, MOST - 1))


def check_address(text: str, whose: str) -> str:
    """Returns `text`, an IPv4 address.

    Raises:
      UserError: if it is none; names `whose` it should be.
    """
    try:
        if str(ipaddress.IPv4Address(text)) == text:
            return text
    except ValueError:
        pass
    raise UserError("%r is no IPv4 address of %s; give one such as 192.168.100.101" % (text, whose))


def read_hccn_conf(path: str) -> Dict[int, str]:
    """Returns {device: address} of the lines `address_<device>=<address>` of a file.

    Raises:
      UserError: if the file cannot be read or has two addresses for one device.
    """
    try:
        with open(path, encoding="utf-8") as file:
            lines = file.read().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        text = "--hccn_conf %s cannot be read (%s); give the server's file, or --device_ips"
        raise UserError(text % (path, reason)) from error
    found: Dict[int, str] = {}
    for line in lines:
        match = re.match(r"\s*address_(\d+)\s*=\s*(\S*)\s*$", line)
        if match:
            device = int(match.group(1))
            if device in found:
                raise UserError("%s has two lines address_%d; remove one" % (path, device))
            found[device] = match.group(2)
    return found


def device_addresses(options: RankTableOptions) -> List[str]:
    """Returns the address of each device, in the order of the ranks.

    Raises:
      UserError: if one is missing, is no IPv4 address, or stands there twice.
    """
    devices = range(options.first_device, options.first_device + options.devices)
    if options.device_ips:
        addresses = [word.strip() for word in options.device_ips.split(",")]
        if len(addresses) != options.devices:
            text = "--device_ips has %d addresses for %d devices; give one for each, with commas"
            raise UserError(text % (len(addresses), options.devices))
    else:
        found = read_hccn_conf(options.hccn_conf)
        missing = ["address_%d" % device for device in devices if device not in found]
        if missing:
            text = "%s has no line %s; complete it, or give --device_ips"
            raise UserError(text % (options.hccn_conf, ", ".join(missing)))
        addresses = [found[device] for device in devices]
    for number, (device, address) in enumerate(zip(devices, addresses)):
        check_address(address, "device %d" % device)
        if address in addresses[:number]:
            other = devices[addresses.index(address)]
            text = "devices %d and %d both have the address %s; each needs its own"
            raise UserError(text % (other, device, address))
    return addresses


def server_address() -> str:
    """Returns the address that this server's own name stands for.

    Raises:
      UserError: if it stands for none.
    """
    name = socket.gethostname()
    try:
        return socket.gethostbyname(name)
    except OSError as error:
        text = "the address of this server, %s, is not known (%s); give --server"
        raise UserError(text % (name, error.strerror)) from error


def rank_table(server: str, first_device: int, addresses: List[str]) -> dict:
    """Returns the table, version 1.0: rank i is device `first_device` + i at `addresses[i]`."""
    devices = [
        {"device_id": str(first_device + rank), "device_ip": address, "rank_id": str(rank)}
        for rank, address in enumerate(addresses)
    ]
    return {
        "server_count": "1",
        "server_list": [{"server_id": server, "device": devices}],
        "status": "completed",
        "version": "1.0",
    }


def usage(options: RankTableOptions, path: str) -> str:
    """Returns the lines for a shell that train with the table in `path`."""
    words = ["bash", "test/train_full_8p.sh", "--data_path=FOLDER"]
    if options.devices != MOST:
        words.append("--rank_size=%d" % options.devices)
    if options.first_device:
        words.insert(0, "ASCEND_DEVICE_ID=%d" % options.first_device)
    table = shlex.quote(os.path.abspath(path))
    return "export RANK_TABLE_FILE=%s\n%s    # in a model's folder" % (table, " ".join(words))


def main() -> int:
    """Writes the table that the command line asks for, and prints how it is used."""
    options, given = parse(RankTableOptions, prog="python -m tools.rank_table", description=__doc__)
    if {"device_ips", "hccn_conf"} <= given:
        raise UserError("--device_ips and --hccn_conf both say the addresses; give one of them")
    addresses = device_addresses(options)
    server = check_address(options.server or server_address(), "the server")
    path = options.output or "rank_table_%dp.json" % options.devices
    try:
        write_json(path, rank_table(server, options.first_device, addresses))
    except OSError as error:
        text = "--output %s cannot be written (%s); choose another place"
        raise UserError(text % (path, error.strerror)) from error
    last = options.first_device + options.devices - 1
    if server.startswith("127."):
        text = "note: %s is this server to itself only; for several servers give --server"
        print(text % server, file=sys.stderr)
    print("%s: devices %d to %d of %s" % (path, options.first_device, last, server))
    print(usage(options, path))
    if options.devices not in (1, 2, GROUP, MOST) or (
        options.devices != MOST and options.first_device // GROUP != last // GROUP
    ):
        print(NOTE, file=sys.stderr)
    return 0


if __name__ == "__main__":
    run_program(main)
