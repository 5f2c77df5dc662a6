# SPDX-License-Identifier: Apache-2.0
# Source: tools/shared/harness/__init__.py. The model folders hold identical copies;
# edit the source and run "python ci/copies.py --write".
"""What every model folder needs and no model is about; knows no framework.

Reading order: `options` (dataclass -> command line), `platform_options` (those of every model),
`environment` (rank and device), `errors`, `files` and `images` (reading and writing), `settings`
(config.json, compared on resume), `ahead` (work ahead of the training step), `loop` (log, progress,
speed, stopping), `cases` (behind test/*.sh), `launch` (several ranks), `results` (what a case
leaves behind), `modelarts` (the job's boot files) with `buckets` and `uploads` (data in, results
out), `fid` (a number that tools/fid of the repository measures), `doctor` (what stands in
the way of a training, and how long it would take) with `machine` and `trial`.
"""
