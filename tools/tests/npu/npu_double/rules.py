# SPDX-License-Identifier: Apache-2.0
"""What a session configuration with an NpuOptimizer entry must be like, by release."""

import json
import os
import re

from npu_double import ContractError, table

OFF = 2  # RewriterConfig.Toggle
MIXED = {"allow_mix_precision"}
MIXED_MASTER = MIXED | {"allow_mix_precision_fp16", "allow_mix_precision_bf16"}
MIXED_V2 = {"mixed_float16", "mixed_bfloat16"}
DUMPS = ("enable_dump", "enable_dump_debug")
DYNAMIC = ("input_shape", "dynamic_dims", "dynamic_node_type")
FILES = ("modify_mixlist", "fusion_switch_file", "customize_dtypes")
FORMS = {
    "input_shape": r"[^:;]+:-?\d+(,-?\d+)*(;[^:;]+:-?\d+(,-?\d+)*)*",
    "dynamic_dims": r"\d+(,\d+)*(;\d+(,\d+)*)*",
    "local_device_list": r"(\d+,)*\d+",
    "local_rank_id": r"[0-7]",
    "session_device_id": r"\d+",
}
# Not checked before master; here it must at least be a value that some release has.
CHECKED_LATER = ("precision_mode", "enable_exception_dump", "dump_data")


def values_of(entry, release: str) -> dict:
    """Returns {key: value} of an NpuOptimizer entry.

    Raises:
      ContractError: if the release does not have a key, or reads another field of its value.
    """
    known, values = table.keys(release), {}
    for key, value in entry.parameter_map.items():
        if key not in known:
            raise ContractError("npu_bridge %s has no session key %s" % (release, key))
        field, allowed = value.WhichOneof("value"), known[key][0]
        if field != allowed:
            text = "npu_bridge %s: session key %s is in field %s, but %s is read"
            raise ContractError(text % (release, key, field, allowed))
        values[key] = value.s.decode() if field == "s" else getattr(value, field)
    return values


def check(values: dict, release: str) -> None:
    """Checks the values of the keys, alone and together.

    Raises:
      ContractError: if the plugin would stop, or not do what is asked for.
    """
    for key, value in values.items():
        allowed = table.keys(release)[key][1]
        if not allowed and key in CHECKED_LATER:
            allowed = table.keys(table.releases()[-1])[key][1]
        if allowed and str(value) not in allowed:
            _refuse(key, value, "it must be one of " + ", ".join(allowed))
        if key in FORMS and not re.fullmatch(FORMS[key], str(value)):
            _refuse(key, value, "it must look like " + FORMS[key])
    _check_precision(values, release)
    _check_dump(values)
    _check_dynamic(values, release)
    if values.get("profiling_mode"):
        options = values.get("profiling_options")
        if options is None and release == "r1.5":
            _refuse("profiling_mode", True, "it needs profiling_options")
        _check_profiling(options)
    if values.get("aoe_mode"):
        _check_folder("work_path", values.get("work_path", "./"))
    if values.get("optypelist_for_implmode") and not values.get("op_select_implmode"):
        _refuse("optypelist_for_implmode", "set", "it needs op_select_implmode")
    if values.get("compress_weight_conf") and values.get("enable_compress_weight"):
        _refuse("compress_weight_conf", "set", "never with enable_compress_weight")
    for key in FILES:
        if values.get(key) and not os.path.isfile(values[key]):
            _refuse(key, values[key], "there is no such file")


def _refuse(key, value, text):
    raise ContractError("session key %s = %s: %s" % (key, value, text))


def _check_precision(values, release):
    if values.get("precision_mode") and values.get("precision_mode_v2"):
        _refuse("precision_mode_v2", values["precision_mode_v2"], "never with precision_mode")
    mixed = MIXED_MASTER if release == "master" else MIXED
    is_mixed = values.get("precision_mode") in mixed or values.get("precision_mode_v2") in MIXED_V2
    if values.get("modify_mixlist") and not is_mixed:
        _refuse("modify_mixlist", values["modify_mixlist"], "it needs a mixed precision mode")


def _check_dump(values):
    if all(values.get(key) for key in DUMPS):
        _refuse("enable_dump", True, "never with enable_dump_debug")
    if any(values.get(key) for key in DUMPS):
        _check_folder("dump_path", values.get("dump_path", ""))
    steps = values.get("dump_step", "")
    parts = steps.split("|") if steps else []
    for part in parts:
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", part)
        if not match or (match.group(2) and int(match.group(1)) >= int(match.group(2))):
            _refuse("dump_step", steps, "it must look like 0|5|10-20")
    if len(parts) > 100:
        _refuse("dump_step", "%d sets" % len(parts), "it must be at most 100")


def _check_folder(key, path):
    if not (os.path.isdir(path) and os.access(path, os.R_OK | os.W_OK)):
        _refuse(key, path or "''", "it must be a folder that can be read and written")


def _check_dynamic(values, release):
    given = [key for key in DYNAMIC if key in values]
    if given and len(given) < len(DYNAMIC):
        _refuse(given[0], values[given[0]], "it needs all of " + ", ".join(DYNAMIC))
    loops = values.get("iterations_per_loop", 1)
    lazy = values.get("dynamic_graph_execute_mode") == "lazy_recompile" or release == "r1.5"
    if loops > 1 and (values.get("mix_compile_mode") or (values.get("dynamic_input") and lazy)):
        _refuse("iterations_per_loop", loops, "never with mix_compile_mode or dynamic_input")
    if loops != 1:
        _refuse("iterations_per_loop", loops, "the double runs one step at a time")


def _check_profiling(options):
    if not options:
        return
    try:
        words = json.loads(options)
    except ValueError as error:
        _refuse("profiling_options", options, "it must be JSON (%s)" % error)
    if not isinstance(words, dict) or not words.get("output"):
        _refuse("profiling_options", options, "it must be an object with output")
    _check_folder("profiling_options output", words["output"])


def check_rewrites(rewrite) -> None:
    """Raises ContractError unless remapping and memory_optimization are off."""
    for name in ("remapping", "memory_optimization"):
        if getattr(rewrite, name) != OFF:
            text = "rewrite_options.%s must be OFF beside an NpuOptimizer entry"
            raise ContractError(text % name)
