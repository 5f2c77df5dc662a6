# SPDX-License-Identifier: Apache-2.0
"""The losses of section 2.2; every one is a mean, so none depends on picture or batch size."""

from mindspore import ops


def squared_distance(logits, target: float):
    """Returns mean((logits - target)^2): least-squares GAN (Mao et al. 2017)."""
    return ((logits - target) ** 2).mean()


def discriminator_loss(real, fake):
    """Returns the loss of one discriminator: patches and attention, real to 1, fake to 0.

    Args:
      real: (patch logits, CAM logits) of real pictures.
      fake: the same of translated ones.
    """
    return sum(squared_distance(x, 1.0) for x in real) + sum(squared_distance(x, 0.0) for x in fake)


def adversarial_loss(fake):
    """Returns the generator's loss before one discriminator (equation 2): fake to 1.

    Args:
      fake: (patch logits, CAM logits) of translated pictures.
    """
    return sum(squared_distance(x, 1.0) for x in fake)


def distance(x, y):
    """Returns mean |x - y|: of a picture and its cycle (equation 3) or identity (equation 4)."""
    return ops.abs(x - y).mean()


def attention_loss(translated, kept):
    """Returns the generator's CAM loss (equation 5): binary cross entropy with logits.

    Args:
      translated: CAM logits of pictures of the source domain, to be 1.
      kept: CAM logits of pictures of the target domain, to be 0.
    """
    return cross_entropy(translated, 1.0) + cross_entropy(kept, 0.0)


def cross_entropy(logits, target: float):
    """Returns mean(-t log s(x) - (1 - t) log(1 - s(x))), finite for any logit."""
    return (ops.relu(logits) - logits * target + ops.log(1 + ops.exp(-ops.abs(logits)))).mean()
