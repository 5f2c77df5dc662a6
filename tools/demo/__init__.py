# SPDX-License-Identifier: Apache-2.0
"""A local page on which pictures go through the models: `bash ci/demo.sh`.

Reading order:
  __main__   the command: options, the private folder, the end
  finding    weights on this machine, and what to do where there are none
  uploads    what a picture must be
  processes  one worker per model; workers is what runs in them
  page       the page; panels the part of each model, shown its pictures
"""
