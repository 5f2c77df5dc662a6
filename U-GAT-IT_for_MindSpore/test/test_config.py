# SPDX-License-Identifier: Apache-2.0
"""Options: the YAML file, the command line, and what is answered to mistakes in either."""

import dataclasses
import re
import subprocess
import sys

import pytest
import yaml
from conftest import FOLDER

from harness.errors import UserError
from ugatit.config import Config, smallest_size
from ugatit.reading import DEFAULT_FILE, names, read

# Every key of the published default_config.yaml, what users of the seed give, and a value.
DOCUMENTED = {
    "enable_modelarts": True,
    "data_url": "in",
    "train_url": "out",
    "checkpoint_url": "before",
    "data_path": "pictures",
    "output_path": "made",
    "graph_path": "graphs",
    "load_path": "earlier",
    "phase": "test",
    "device_target": "Ascend",
    "device_id": 4,
    "distributed": True,
    "save_graphs": True,
    "enable_profiling": True,
    "light": True,
    "dataset": "horse2zebra",
    "epoch": 7,
    "batch_size": 2,
    "print_freq": 3,
    "save_freq": 11,
    "decay_flag": False,
    "decay_epoch": 50,
    "resume": True,
    "loss_scale": 1024.0,
    "use_global_norm": True,
    "lr": 2.5e-5,
    "weight_decay": 1e-3,
    "adv_weight": 2.0,
    "cycle_weight": 3.0,
    "identity_weight": 4.0,
    "cam_weight": 5.0,
    "ch": 32,
    "n_res": 6,
    "n_dis": 5,
    "img_size": 128,
    "img_ch": 1,
    "compute_metrics": True,
    "inception_ckpt_path": "inception.ckpt",
    "genA2B_ckpt": "a.ckpt",
    "MINDIR_outdir": "mindir",
    "export_file_format": "ONNX",
    "bifile_inputdir": "bins",
    "bifile_outputdir": "results",
    "eval_outputdir": "jpegs",
    "config_path": "",
    "iteration": 1000000,
    "ckpt_path": "cache",
}


def _write(folder, text):
    path = folder / "options.yaml"
    path.write_text(text, encoding="utf-8")
    return "--config_path=%s" % path


def _default_lines():
    with open(DEFAULT_FILE, encoding="utf-8") as file:
        return file.read().splitlines()


def test_the_default_file_has_every_option_once_with_its_default():
    keys = [line.split(":")[0] for line in _default_lines() if line and not line.startswith("#")]
    fields = [names()[key].name for key in keys]
    wanted = {field.name for field in dataclasses.fields(Config)} - {"config_path"}
    assert len(fields) == len(set(fields))
    assert set(fields) == wanted
    content = yaml.safe_load("\n".join(_default_lines()))
    for key, value in content.items():
        default = names()[key].default
        assert (value, type(value)) == (default, type(default)), key
    assert read([])[0] == Config()


def test_the_default_file_explains_every_option_and_its_choices():
    explained, block = {}, []
    for line in _default_lines():
        if line.startswith("# ----") or not line:
            block = []
        elif line.startswith("#"):
            block.append(line[1:].strip())
        else:
            explained[line.split(":")[0]] = " ".join(block)
            block = []
    assert len(explained) > 60
    for key, text in explained.items():
        metadata = names()[key].metadata
        choices = "; choices: " + ", ".join(metadata["choices"]) if metadata["choices"] else ""
        assert text == "%s: %s%s" % (key, metadata["text"], choices)


@pytest.mark.parametrize("key", list(DOCUMENTED))
def test_every_documented_key_is_a_flag_and_a_key(tmp_path, key):
    value, name = DOCUMENTED[key], names()[key].name
    config, given = read(["--%s=%s" % (key, value)])
    assert getattr(config, name) == value
    assert name in given
    assert value != names()[key].default or key == "config_path"
    if key != "config_path":
        assert getattr(read([_write(tmp_path, "%s: %r\n" % (key, value))])[0], name) == value


def test_the_command_line_goes_before_the_file_and_the_file_before_the_defaults(tmp_path):
    path = _write(tmp_path, "ch: 8\nlr: 1e-3\ndevice_target: CPU\n")
    config, given = read([path, "--ch=16", "--train_epochs", "3"])
    assert (config.ch, config.lr, config.device, config.target) == (16, 1e-3, "CPU", "CPU")
    assert (config.epoch, config.n_res) == (3, 4)
    assert given == {"ch", "lr", "device", "epoch", "config_path"}
    assert (config.config_path, config.phase) == (path.split("=")[1], "train")
    assert read([path], phase="test")[0].phase == "test"


def test_flags_are_forgiving_in_form():
    config, _ = read(["--img-size=128", "--use-global-norm", "--no_decay_flag", "--light", "False"])
    assert (config.img_size, config.use_global_norm) == (128, True)
    assert (config.decay_flag, config.light) == (False, False)
    assert read(["--iteration=1e6"])[0].iteration == 1000000


def test_options_that_only_fit_together_may_come_from_both(tmp_path):
    path = _write(tmp_path, "n_dis: 4\n")
    config, _ = read([path, "--img_size=32"])
    assert (config.n_dis, config.img_size) == (4, 32)
    assert read(["--img_size=32"], phase="test")[0].img_size == 32
    with pytest.raises(UserError, match="--n_dis 6 needs --img_size of at least 96, it is 32"):
        read(["--img_size=32"])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("img_sise: 64", "options.yaml: unknown key img_sise; did you mean img_size?"),
        ("qwxyz: 64", "options.yaml: unknown key qwxyz; train.py --help lists all"),
        ("light: 1", "light is 1; it must be True or False"),
        ("epoch: 1.5", "epoch is 1.5; it must be a whole number"),
        ("epoch: True", "epoch is True; it must be a whole number"),
        ("lr: fast", "lr is 'fast'; it must be a number"),
        ("dataset: [3]", "dataset is [3]; it must be a text"),
        ("device_target: TPU", "device_target is 'TPU'; it must be one of auto, Ascend, GPU, CPU"),
        ("batch_size: 0", "--batch_size 0 is too small; it must be at least 1"),
        ("lr: .nan", "--lr nan is too small; it must be at least 0"),
        ("img_size: 66", "--img_size 66: it must be a multiple of 4, such as 64"),
        ("img_ch: 2", "--img_ch 2: it must be 1 (grey) or 3 (colour)"),
        ("- light", "options.yaml must hold lines such as `light: True`"),
        ("light: [1", "options.yaml cannot be read as YAML: "),
    ],
)
def test_mistakes_in_the_file_are_told(tmp_path, text, sentence):
    with pytest.raises(UserError, match=re.escape(sentence)) as caught:
        read([_write(tmp_path, text + "\n")])
    assert "\n" not in str(caught.value)


def test_a_file_that_is_missing_or_no_text_is_told(tmp_path):
    with pytest.raises(UserError, match=r"--config_path .*no\.yaml: there is no such file"):
        read(["--config_path=%s" % (tmp_path / "no.yaml")])
    (tmp_path / "odd.yaml").write_bytes(b"\xff\xfe\xfa")
    for name in ("odd.yaml", ""):
        with pytest.raises(UserError, match="cannot be read as YAML"):
            read(["--config_path=%s" % (tmp_path / name)])


def test_a_file_without_lines_or_with_a_number_as_text_is_read(tmp_path):
    assert read([_write(tmp_path, "# nothing\n")])[0].lr == Config().lr
    config, _ = read([_write(tmp_path, "lr: 1e-3\nweight_decay: 2e-4\ncam_weight: 7\n")])
    assert (config.lr, config.weight_decay, config.cam_weight) == (1e-3, 2e-4, 7.0)
    assert isinstance(config.cam_weight, float)


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("--img_sise=64", "unknown option --img_sise=64; did you mean --img_size?"),
        ("--epoch=many", "'many' is not a whole number"),
        ("--lr=inf", "--lr inf: it must be finite"),
        ("--variant=tf", "invalid choice: 'tf'"),
        ("--light=maybe", "'maybe' is neither True nor False"),
        ("--n_dis=2", "--n_dis 2 is too small; it must be at least 3"),
    ],
)
def test_mistakes_on_the_command_line_end_the_program(capsys, word, sentence):
    with pytest.raises(SystemExit) as caught:
        read([word])
    printed = capsys.readouterr().err
    assert caught.value.code == 2
    assert sentence in printed
    assert printed.count("\n") == 1


@pytest.mark.parametrize(
    ("given", "unit", "periods"),
    [
        ({}, "epoch", (1020, 10200)),
        ({"print_freq": 2, "save_freq": 3}, "epoch", (2040, 3060)),
        ({"iteration": 50}, "iteration", (1000, 100000)),
        ({"iteration": 50, "print_freq": 7}, "iteration", (7, 100000)),
        ({"iteration": 50, "freq_unit": "epoch", "save_freq": 2}, "epoch", (1020, 2040)),
        ({"freq_unit": "iteration", "save_freq": 2}, "iteration", (1000, 2)),
    ],
)
def test_periods_are_epochs_unless_iterations_are_given(given, unit, periods):
    config = Config(**given)
    assert config.unit == unit
    assert config.periods(1020) == periods


@pytest.mark.parametrize(("n_dis", "least"), [(3, 16), (4, 24), (5, 48), (6, 96), (7, 192)])
def test_the_least_size_leaves_every_discriminator_a_map(n_dis, least):
    assert smallest_size(n_dis + 1) == least
    assert Config(n_dis=n_dis, img_size=least).img_size == least
    if least > 16:
        with pytest.raises(ValueError, match="of at least %d, it is %d" % (least, least - 4)):
            Config(n_dis=n_dis, img_size=least - 4)
    assert Config(n_dis=9, img_size=16, phase="test").phase == "test"


@pytest.mark.parametrize(
    ("word", "target"),
    [("auto", "auto"), ("npu", "Ascend"), ("gpu", "GPU"), ("cpu", "CPU"), ("CPU", "CPU")],
)
def test_devices_have_the_names_of_either_zoo(word, target):
    assert read(["--device=" + word])[0].target == target


def test_the_run_has_the_folder_of_its_data_set():
    config, _ = read(["--output_path=out", "--dataset=d", "--continue_train"])
    assert config.folder == "out/d"
    assert config.continue_train is config.resume is True


def test_importing_the_options_reads_no_command_line_and_loads_no_mindspore():
    code = "import sys; sys.argv += ['--nonsense']; import ugatit.config, ugatit.device, train; "
    code += "assert sys.argv[1:] == ['--nonsense']; print('mindspore' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=FOLDER,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "False\n")
