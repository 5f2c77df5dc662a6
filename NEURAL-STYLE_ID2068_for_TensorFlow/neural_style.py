#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Neural style: optimises a picture to have the content of one picture and the style of others."""

import dataclasses
import importlib.util
import os

from harness import environment
from harness.errors import run_program
from harness.options import parse
from stylize import data, jobs
from stylize.config import Config
from stylize.weights import check_layers, read_network


def main() -> int:
    """Stylises what the command line asks for; the exit status says whether all went well."""
    config, _ = parse(Config, description=__doc__)
    plan = jobs.make_plan(config)
    if not plan.is_single:  # a report of every frame would be too much
        config = dataclasses.replace(config, report=False)
    pictures = data.read_pictures(config)
    if plan.is_single:
        plan.jobs[0].read()  # a content that cannot be read is told at once
    network = read_network(
        config.network, config.legacy_transposed_kernels, config.channel_order, config.allow_pickle
    )
    if not importlib.util.find_spec("npu_bridge"):  # on NPUs the log level must stay
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # TensorFlow takes seconds to load: only after what was asked for is found to be right.
    from stylize.scales import stylise
    from stylize.training import used_layers
    from tf_runtime import device as devices

    check_layers(network, [name for layers in used_layers(config) for name in layers])
    print(network.description, flush=True)
    if config.optimizer == "lbfgs":  # its line search needs exact gradients
        config = dataclasses.replace(config, precision_mode="force_fp32")
    rank, size = environment.rank_and_size()
    environment.leave_group()  # each rank has pictures of its own: nothing may wait for the others
    device = devices.choose(config)

    def work(content, output, folder, initial):
        inputs = pictures._replace(content=content)
        if initial is not None:
            inputs = inputs._replace(initial=initial)
        return stylise(config, network, device, inputs, output, folder)

    return jobs.run(plan, config, work, rank, size)


if __name__ == "__main__":
    run_program(main)
