# SPDX-License-Identifier: Apache-2.0
"""Neural style: a picture optimised to have the content of one picture and the style of others.

Gatys, Ecker, Bethge: "Image Style Transfer Using Convolutional Neural Networks", CVPR 2016
(arXiv:1508.06576). Reading order:

  config      every option, with the defaults of the reference code
  data        pictures on disk -> network input, and back; sizes, starting image, colours
  weights     the files VGG-19 comes in
  networks    VGG-19, and what it says of a picture: features and Gram matrices
  losses      content, style, total variation
  training    the graph of a step and the loop; lbfgs is SciPy's part of it
  scales      a picture from coarse to fine, and its file
  memory      what a run will need
  progress    log lines, progress.txt, progress.png
  jobs        one picture, a folder of them, or the frames of a video; outputs

Where we depart from the paper is written at the place, after "Differs from the paper".
"""
