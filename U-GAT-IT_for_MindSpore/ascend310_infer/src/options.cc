// SPDX-License-Identifier: Apache-2.0
#include "options.h"

#include "utils.h"

namespace ugatit {

const char kUsage[] = R"(usage: main --mindir_path=FILE --input0_path=FOLDER [options]
  --mindir_path         the exported generator
  --input0_path         folder of pictures, or of .bin files written by preprocess.py
  --device_target       Ascend310, CPU or auto: Ascend310 where it works, else CPU (default auto)
  --device_id           number of the Ascend310 device (default 0)
  --fusion_switch_path  file of graph fusions to switch off; Ascend310 only (default none)
  --help                shows this text
Writes ./result_Files/NAME_0.bin, the translated picture as float32 [3, H, W] in [-1, 1], and
./time_Result/test_perform_static.txt. The library's own messages: GLOG_v=2 in the environment.
)";

namespace {

bool CheckOptions(const Options& options, std::string* error) {
  const std::string &target = options.device_target, &id = options.device_id;
  if (options.mindir_path.empty() || options.input0_path.empty()) {
    *error = "--mindir_path and --input0_path must be given; --help explains them";
  } else if (!IsFile(options.mindir_path)) {
    *error = "there is no file " + options.mindir_path + "; give --mindir_path an exported .mindir";
  } else if (target != "auto" && target != "CPU" && target != "Ascend310") {
    *error = "--device_target=" + target + ": it must be Ascend310, CPU or auto";
  } else if (id.empty() || id.size() > 4 || id.find_first_not_of("0123456789") != id.npos) {
    *error = "--device_id=" + id + ": it must be a whole number from 0 on";
  } else if (!options.fusion_switch_path.empty() && !IsFile(options.fusion_switch_path)) {
    *error = "there is no file " + options.fusion_switch_path + "; mend --fusion_switch_path";
  }
  return error->empty();
}

}  // namespace

bool ParseOptions(int argc, char** argv, Options* options, std::string* error) {
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    const size_t equals = word.find('=');
    const std::string name = word.substr(0, equals);
    std::string* target = name == "--mindir_path"          ? &options->mindir_path
                          : name == "--input0_path"        ? &options->input0_path
                          : name == "--device_target"      ? &options->device_target
                          : name == "--device_id"          ? &options->device_id
                          : name == "--fusion_switch_path" ? &options->fusion_switch_path
                                                           : nullptr;
    if (word == "--help") {
      options->help = true;
      return true;
    }
    if (target == nullptr) {
      *error = "unknown option " + word + "; --help lists every option";
      return false;
    }
    if (equals == word.npos && i + 1 == argc) {
      *error = word + " has no value; write " + word + "=VALUE";
      return false;
    }
    *target = equals == word.npos ? argv[++i] : word.substr(equals + 1);
  }
  return CheckOptions(*options, error);
}

}  // namespace ugatit
