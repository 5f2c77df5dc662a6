# SPDX-License-Identifier: Apache-2.0
"""One training step: the discriminators', then the generators' against the new discriminators.

Pictures a, b [N, C, S, S] in [-1, 1] are one batch of domain A and one of domain B.
"""

from typing import Callable, Dict

import mindspore as ms
import numpy as np
from mindspore import Tensor, amp, nn, ops

from ugatit import losses
from ugatit.device import Place
from ugatit.networks import DISCRIMINATORS, GENERATORS

BETAS = (0.5, 0.999)
PARTS = ("adv_loss", "cycle_loss", "identity_loss", "cam_loss")


def learning_rates(config, last_step: int, steps_per_epoch: int) -> np.ndarray:
    """Returns the rate of every step, float32 [last_step]: constant, then linearly towards 0.

    It falls from the middle of the training on, or after --decay_epoch; not without --decay_flag.
    """
    steps = np.arange(last_step)
    start = config.decay_epoch * steps_per_epoch or last_step // 2
    if not config.decay_flag or start >= last_step:
        return np.full(last_step, config.lr, np.float32)
    left = (last_step - steps) / (last_step - start)
    return (config.lr * np.minimum(1.0, left)).astype(np.float32)


class Optimizer(nn.Cell):
    """Adam for one side, with loss scaling and clipping.

    Weight decay adds to every gradient, those of biases, rho, gamma and beta too, as in the PyTorch
    code: the explicit group matters, as MindSpore leaves out names with gamma and beta otherwise.

    Args:
      name: begins the names of its state.
      parameters: what it trains.
      rates: the learning rate of every step.
      config: --weight_decay, --use_global_norm and --loss_scale.
      place: from `device.connect`; the gradients are the mean over its ranks.
    """

    def __init__(self, name, parameters, rates, config, place: Place):
        super().__init__(auto_prefix=False)
        self.trained, self.clips = ms.ParameterTuple(parameters), config.use_global_norm
        group = {
            "params": list(self.trained),
            "weight_decay": config.weight_decay,
            "lr": Tensor(rates),
        }
        self.adam = nn.Adam([group], 1e-4, BETAS[0], BETAS[1], eps=1e-8)
        self.joins = place.ranks > 1
        if self.joins:
            self.reduce = nn.DistributedGradReducer(self.trained, mean=True)
        own = {p.name for p in self.trained}
        state = [p for p in self.adam.get_parameters() if p.name not in own]
        for p in state:
            p.name = "%s.%s" % (name, p.name)
        self.half = place.half
        self.adapts = config.loss_scale == 0 and place.half
        self.fixed_scale = config.loss_scale or 1.0
        if self.adapts:
            self.scaler = amp.DynamicLossScaler(2.0**16, 2, 2000)
            self.scaler.scale_value.name = name + ".loss_scale"
            self.scaler.counter.name = name + ".loss_scale_steps"
            state += [self.scaler.scale_value, self.scaler.counter]
        self.state = {p.name: p for p in state if "learning_rate" not in p.name}

    def scaled(self, loss):
        """Returns the loss times the loss scale."""
        return self.scaler.scale(loss) if self.adapts else loss * self.fixed_scale

    def construct(self, gradients):
        """Makes a step with the gradients of the scaled loss; none if float16 overflowed."""
        if self.adapts:
            gradients = self.scaler.unscale(gradients)
        else:
            gradients = tuple([g * (1.0 / self.fixed_scale) for g in gradients])
        if self.joins:
            gradients = self.reduce(gradients)
        finite = True
        if self.half:
            finite = amp.all_finite(gradients)
        if self.adapts:
            self.scaler.adjust(finite)
        if self.clips:
            gradients = ops.clip_by_global_norm(gradients, 1.0)
        if finite:
            self.adam(gradients)
        return finite


def build_translate(networks: Dict[str, nn.Cell], config) -> Callable:
    """Returns the function (a, b) -> (fake_b, fake_a, loss, parts).

    `loss` is the weighted sum of cycle, identity and attention loss of both directions; `parts` are
    these three, [3], not weighted.
    """
    a2b, b2a = (networks[name] for name in GENERATORS)

    def translate(a, b):
        fake_b, cam_b, _ = a2b(a)
        fake_a, cam_a, _ = b2a(b)
        same_b, cam_same_b, _ = a2b(b)
        same_a, cam_same_a, _ = b2a(a)
        cycle = losses.distance(b2a(fake_b)[0], a) + losses.distance(a2b(fake_a)[0], b)
        identity = losses.distance(same_a, a) + losses.distance(same_b, b)
        attention = losses.attention_loss(cam_a, cam_same_a)
        attention += losses.attention_loss(cam_b, cam_same_b)
        loss = config.cycle_weight * cycle + config.identity_weight * identity
        loss += config.cam_weight * attention
        return fake_b, fake_a, loss, ops.stack((cycle, identity, attention))

    return translate


def build_judge(networks: Dict[str, nn.Cell]) -> Callable:
    """Returns the function (fake_b, fake_a) -> adversarial loss of the generators."""

    def judge(fake_b, fake_a):
        fakes = {"A": fake_a, "B": fake_b}
        return sum(
            losses.adversarial_loss(networks[name](fakes[name[-1]])[:2]) for name in DISCRIMINATORS
        )

    return judge


def build_discriminate(networks: Dict[str, nn.Cell]) -> Callable:
    """Returns the function (a, b, fake_b, fake_a) -> loss of the discriminators."""

    def discriminate(a, b, fake_b, fake_a):
        # Real and fake pictures as one batch: no statistics are shared between pictures.
        pairs = {"A": ops.concat((a, fake_a)), "B": ops.concat((b, fake_b))}
        total, n = 0, a.shape[0]
        for name in DISCRIMINATORS:
            outputs = networks[name](pairs[name[-1]])[:2]
            real, fake = [x[:n] for x in outputs], [x[n:] for x in outputs]
            total += losses.discriminator_loss(real, fake)
        return total

    return discriminate


def build_step(networks, generator_side: Optimizer, discriminator_side: Optimizer, config, place):
    """Returns the function (a, b) -> {loss name: scalar tensor}, which changes the parameters.

    Every generator sees its pictures once: the translations of the discriminators' step are those
    of the generators', as these do not change in between. Their gradients are asked for when the
    new discriminators have said how they should change (`ms.vjp`). In a whole-step graph, which has
    no such second moment, the pictures are translated again.

    Args:
      networks: from `networks.build_networks`.
      generator_side: the generators' optimizer.
      discriminator_side: the discriminators'.
      config: the loss weights.
      place: from `device.connect`.
    """
    translate, judge = build_translate(networks, config), build_judge(networks)
    discriminate = build_discriminate(networks)
    judges = [networks[name] for name in DISCRIMINATORS]
    rhos = [p for p in generator_side.trained if p.name.endswith(".rho")]

    def discriminator_loss(a, b, fake_b, fake_a):
        loss = discriminate(a, b, fake_b, fake_a)
        return discriminator_side.scaled(loss), loss

    def adversarial_loss(fake_b, fake_a):
        loss = judge(fake_b, fake_a)
        return generator_side.scaled(config.adv_weight * loss), loss

    def generator_loss(a, b):
        fake_b, fake_a, rest, parts = translate(a, b)
        adversarial = judge(fake_b, fake_a)
        loss = rest + config.adv_weight * adversarial
        return generator_side.scaled(loss), adversarial, rest, parts

    weights = (discriminator_side.trained, generator_side.trained)
    discriminator_gradients = ms.value_and_grad(discriminator_loss, None, weights[0], True)
    adversarial_gradients = ms.value_and_grad(adversarial_loss, (0, 1), None, True)
    generator_gradients = ms.value_and_grad(generator_loss, None, weights[1], True)

    def step_discriminators(a, b, fake_b, fake_a):
        for network in judges:
            network.advance()
        (_, loss), gradients = discriminator_gradients(a, b, fake_b, fake_a)
        discriminator_side(gradients)
        return loss

    def step_generators(gradients):
        generator_side(gradients)
        for rho in rhos:
            ops.assign(rho, ops.clip_by_value(rho, 0.0, 1.0))

    def eager_step(a, b):
        (fake_b, fake_a, rest, parts), pull_back = ms.vjp(translate, a, b, weights=weights[1])
        fake_b, fake_a = ops.stop_gradient(fake_b), ops.stop_gradient(fake_a)
        d_loss = step_discriminators(a, b, fake_b, fake_a)
        (_, adversarial), to_fakes = adversarial_gradients(fake_b, fake_a)
        one, none = generator_side.scaled(Tensor(1.0, ms.float32)), ops.zeros_like(parts)
        step_generators(pull_back((*to_fakes, one, none))[1])
        return d_loss, adversarial, rest, parts

    def graph_step(a, b):
        fake_b, fake_a = (ops.stop_gradient(x) for x in translate(a, b)[:2])
        d_loss = step_discriminators(a, b, fake_b, fake_a)
        (_, adversarial, rest, parts), gradients = generator_gradients(a, b)
        step_generators(gradients)
        return d_loss, adversarial, rest, parts

    run = ms.jit(graph_step) if place.graph else eager_step

    def step(a, b):
        d_loss, adversarial, rest, parts = (x.asnumpy() for x in run(a, b))
        values = dict(zip(PARTS, (adversarial, *parts)))
        return dict(d_loss=d_loss, g_loss=config.adv_weight * adversarial + rest, **values)

    return step
