# SPDX-License-Identifier: Apache-2.0
"""White-box Cartoonization: photos into cartoons, judged by surface, structure and texture.

Wang, Yu: "Learning to Cartoonize Using White-Box Cartoon Representations", CVPR 2020. Reading
order:

  config           every option, with the published defaults
  data             the folders of photos and cartoons -> batches, a function of (seed, step)
  networks         generator, discriminators with spectral normalisation
  representations  surface (guided filter) and texture (random colour shift)
  superpixels      structure: segments of one colour, made beside the training step;
                   selective_search is its finer way
  vgg              VGG-19 up to conv4_4; weights reads its file, generators those of generators
  losses           adversarial, content, structure, total variation
  pretraining      the generator learns to reproduce photos
  training         the generator's and the discriminators' step, and the loop; progress is what
                   both trainings leave behind while they run
  serving          weights -> cartoons of any size; exporting writes .pb, .onnx, .tflite
  cartoonizing     pictures, folders and videos through it
  offline          the .bin files of an inference client for an Ascend 310
  evaluation       distances of a folder of cartoons to the two domains

Pictures are uint8 [H, W, 3] RGB outside the networks and float32 BGR in [-1, 1] inside them, as the
published weights want it. Where we depart from the paper is written at the place, after "Differs
from the paper".
"""
