# SPDX-License-Identifier: Apache-2.0
"""StarGAN: one generator for image-to-image translation among many domains.

Choi, Choi, Kim, Ha, Kim, Choo: "StarGAN: Unified Generative Adversarial Networks for Multi-Domain
Image-to-Image Translation", CVPR 2018 (arXiv:1711.09020). Reading order:

  config      every option, with the paper's defaults
  labels      data sets on disk -> pictures with labels; what the networks see of them
  data        pictures -> batches [N, S, S, 3] in [-1, 1], a function of (seed, step)
  networks    generator, discriminator with two heads; convolutions is their fast inside
  losses      adversarial with gradient penalty, classification, reconstruction
  training    the discriminator's and the generator's step, and the loop; starting: from where
  targets     what a picture is translated to
  serving     checkpoint, .pb and .onnx -> translations
  evaluation  the test phase; measures and page are its numbers and its index.html
  classifier  a small attribute classifier, to measure translations with
  offline     the .bin files of an inference client for an Ascend 310

Where we depart from the paper is written at the place, after "Differs from the paper".
"""
