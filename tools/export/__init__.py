# SPDX-License-Identifier: Apache-2.0
"""Checkpoint -> files for other runtimes, each compared with the network that was trained.

Reading order:
  ckpt_to_pb      the program of the TensorFlow models: .pb, SavedModel, .onnx, .tflite
  ckpt_to_mindir  that of U-GAT-IT: MINDIR, ONNX, AIR
  models          what the TensorFlow folders differ in
  formats         writing the files; runtimes loads and runs them
  parity          how far two outputs are apart, and the report
  atc             the command that compiles a file for an Ascend NPU
"""
