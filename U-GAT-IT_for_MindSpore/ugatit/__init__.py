# SPDX-License-Identifier: Apache-2.0
"""U-GAT-IT: unpaired image-to-image translation with attention and adaptive normalisation.

Kim, Kim, Kang, Lee: "U-GAT-IT: Unsupervised Generative Attentional Networks with Adaptive
Layer-Instance Normalization for Image-to-Image Translation", ICLR 2020 (arXiv:1907.10830).
"""
