# SPDX-License-Identifier: Apache-2.0
# Source: tools/shared/harness/modelarts.py. The model folders hold identical copies;
# edit the source and run "python ci/copies.py --write".
"""ModelArts training jobs: the job's folders in, the folder's own case, its exit status out."""

import dataclasses

from harness import cases
from harness.options import option, parse_several, words_for


@dataclasses.dataclass(frozen=True)
class JobOptions:
    """The job's folders."""

    data_url: str = option(
        "/home/ma-user/modelarts/inputs/data_url_0", "folder of the training data"
    )
    train_url: str = option("/home/ma-user/modelarts/outputs/train_url_0/", "folder of the results")


def main(preset: str) -> int:
    """Runs the case of test/train_<preset>_1p.sh on the job's folders and returns its exit status.

    Options of the case and of the model are passed on; parameters that only the platform knows are
    named in a warning and left out.
    """
    extras = []
    classes = [JobOptions, cases.CaseOptions, cases.load_module().Config]
    configs, given = parse_several(classes, description="ModelArts boot file.", extras=extras)
    job, words = configs[0], words_for(dict(given[1], **given[2]))
    if extras:
        print(
            "[CANN-Modelzoo] left out, not options of this model: %s" % " ".join(extras), flush=True
        )
    for url in (job.data_url, job.train_url):
        if "://" in url:
            print("%s: only folders can be used; map the bucket to a folder in the job" % url)
            return 1
    folders = ["--data_path=" + job.data_url, "--output_path=" + job.train_url]
    status = cases.main([preset, "1"] + folders + words)
    print("[CANN-Modelzoo] train_%s_1p.sh ended with status %d" % (preset, status), flush=True)
    return status
