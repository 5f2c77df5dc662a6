# SPDX-License-Identifier: Apache-2.0
"""U-GAT-IT: unpaired image-to-image translation with attention and adaptive normalisation.

Kim, Kim, Kang, Lee: "U-GAT-IT: Unsupervised Generative Attentional Networks with Adaptive
Layer-Instance Normalization for Image-to-Image Translation", ICLR 2020 (arXiv:1907.10830).
Reading order:

  config      every option, with the paper's defaults; reading: command line before YAML file
  data        two domains of pictures -> batches, a function of (seed, step)
  layers      convolutions, AdaLIN in their fast forms; attention with the spectral norm
  networks    generator and discriminator
  losses      adversarial, cycle, identity, attention
  steps       one training step: the discriminators', then the generators'
  training    the loop
  weights     files of weights; run is the states to go on from, samples the sheets of pictures
  serving     weights -> translations; evaluation and measures are eval.py, exporting export.py
  pictures    the files before and after the C++ client in ascend310_infer/
  device      device, precision, ranks; memory says beforehand what will not fit
  modelarts   train.py as the boot file of a job; launcher starts the ranks of scripts/

Where we depart from the paper is written at the place, and in the README.
"""
