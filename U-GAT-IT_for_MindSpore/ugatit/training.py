# SPDX-License-Identifier: Apache-2.0
"""Training: a step for every pair of batches, with samples, weights and states on the way."""

import os
from typing import Dict

import mindspore as ms
from mindspore import Parameter, Tensor, nn

from harness.loop import Periods
from ugatit import data, memory
from ugatit.device import connect
from ugatit.networks import DISCRIMINATORS, GENERATORS, NAMES, build_networks
from ugatit.run import Run
from ugatit.samples import write_sheets
from ugatit.steps import Optimizer, build_step, learning_rates
from ugatit.weights import weights_path, write_weights


def trained(networks: Dict[str, nn.Cell], names) -> list:
    """Returns the parameters that training changes, of the networks named."""
    return [p for name in names for p in networks[name].trainable_params()]


def everything(networks: Dict[str, nn.Cell], sides) -> Dict[str, Parameter]:
    """Returns {name: parameter} of all that a step changes: networks and optimizers."""
    parameters = {p.name: p for name in NAMES for p in networks[name].get_parameters()}
    for side in sides:
        parameters.update(side.state)
    return parameters


def train(config) -> None:
    """Trains U-GAT-IT; with `resume` it goes on where the run's states end.

    Raises:
      UserError: if data, options, device or states do not allow it; before the first step.
    """
    domains = data.find_domains(config)
    data.check_pictures(domains.train_a + domains.train_b + domains.test_a + domains.test_b)
    print("Dataset load finished", flush=True)
    place = connect(config, train=True)
    memory.check(config, place)
    per_epoch = data.steps_per_epoch(domains, config, place.ranks)
    last_step = config.iteration or config.epoch * per_epoch
    state_every, keep_every = config.periods(per_epoch)
    networks = build_networks(config, place.half)
    rates = learning_rates(config, last_step, per_epoch)
    g_side = Optimizer("generators", trained(networks, GENERATORS), rates, config, place)
    d_side = Optimizer("discriminators", trained(networks, DISCRIMINATORS), rates, config, place)
    step_once = build_step(networks, g_side, d_side, config, place)
    parameters = everything(networks, (g_side, d_side))
    sizes = (len(domains.train_a), len(domains.train_b))
    print("Training dataset size =  %d (A %d, B %d)" % (max(sizes), *sizes), flush=True)
    print("%d steps per epoch, %d steps" % (per_epoch, last_step), flush=True)

    def read_batch(step):
        return data.read_batch(domains, config, step, place.rank, place.ranks)

    def write_outputs(step):
        """Writes samples and latest weights, and at their time those that stay."""
        for name in NAMES:
            write_weights(networks[name], weights_path(config, name))
            if step % keep_every == 0:
                write_weights(networks[name], weights_path(config, name, step))
        run.show(step, *write_sheets(networks, config, domains, step))

    profiler = None
    if config.profiling:
        profiler = ms.Profiler(output_path=os.path.abspath(config.profiling_dump_path))

    periods = Periods(config.log_freq, state_every, config.keep_checkpoints, keep_every)
    pictures = data.fingerprint(domains)
    with Run(config, place, parameters, last_step, periods, pictures, write_outputs) as run:
        run.print("training start !")
        for step, (a, b) in run.steps(read_batch):
            values = step_once(Tensor(a), Tensor(b))
            run.end_step()
            if run.log(step, values, learning_rate=rates[step - 1]):
                epoch, place_in_epoch = divmod(step - 1, per_epoch)
                seconds = run.recorded["seconds_per_step"]
                words = (epoch + 1, place_in_epoch + 1, per_epoch, seconds)
                run.print("epoch %d:[%5d/%5d] time per iter: %.4f " % words)
                run.print("d_loss: %.6f" % values["d_loss"])
                run.print("g_loss: %.6f" % values["g_loss"])
        if not run.stopped:
            run.print(" [*] Training finished!")
    if profiler is not None:
        profiler.analyse()
        print("the profile is in %s" % config.profiling_dump_path, flush=True)
