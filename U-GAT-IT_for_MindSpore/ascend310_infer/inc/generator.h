// SPDX-License-Identifier: Apache-2.0
// The exported generator on its device.
#ifndef UGATIT_INC_GENERATOR_H_
#define UGATIT_INC_GENERATOR_H_

#include <memory>
#include <string>
#include <vector>

#include "include/api/model.h"
#include "options.h"

namespace ugatit {

class Generator {
 public:
  // Loads --mindir_path on --device_target and prints the device that took it. From here on a crash
  // of the library ends the program with one sentence and status 1 as well.
  bool Load(const Options& options, std::string* error);

  // Size of the pictures that the generator takes.
  int height() const { return height_; }
  int width() const { return width_; }

  // Runs on one picture, float32 [3, height, width], and returns the first output. An output that
  // is not float32 or not finite is an error.
  bool Run(const std::vector<float>& picture, std::vector<float>* result, std::string* error);

 private:
  bool ReadSize(const Options& options, std::string* error);

  std::unique_ptr<mindspore::Model> model_;
  int height_ = 0;
  int width_ = 0;
};

}  // namespace ugatit

#endif  // UGATIT_INC_GENERATOR_H_
