# SPDX-License-Identifier: Apache-2.0
"""Pix2Pix: image-to-image translation with conditional adversarial networks.

Isola, Zhu, Zhou, Efros: "Image-to-Image Translation with Conditional Adversarial Networks",
CVPR 2017 (arXiv:1611.07004). Reading order:

  config      every option, with the paper's defaults
  data        pairs on disk -> batches [N, H, W, C] in [-1, 1], a function of (seed, step)
  networks    U-Net generator and 70x70 PatchGAN discriminator; convolutions is their fast inside
  losses      the conditional GAN loss and L1
  training    one discriminator step and one generator step per batch, and the loop
  serving     the inference graph, any picture size, the frozen .pb
  evaluation  the test phase: pictures, L1, PSNR, SSIM, index.html

Where we depart from the paper is written at the place, after "Differs from the paper".
"""
