// SPDX-License-Identifier: Apache-2.0
// The command line.
#ifndef UGATIT_INC_OPTIONS_H_
#define UGATIT_INC_OPTIONS_H_

#include <string>

namespace ugatit {

extern const char kUsage[];

struct Options {
  std::string mindir_path;
  std::string input0_path;
  std::string device_target = "auto";
  std::string device_id = "0";
  std::string fusion_switch_path;
  bool help = false;  // asked for; the others are not checked then
};

// Reads --name=value and --name value. An unknown name, a value that is not allowed and a file that
// is not there are errors: false and one sentence in `error`.
bool ParseOptions(int argc, char** argv, Options* options, std::string* error);

}  // namespace ugatit

#endif  // UGATIT_INC_OPTIONS_H_
