// SPDX-License-Identifier: Apache-2.0
#include "generator.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <exception>
#include <iostream>

#include "include/api/context.h"

namespace ugatit {
namespace {

namespace ms = mindspore;

constexpr char kUnreadable[] =
    "it is damaged, or not a MINDIR that this MindSpore Lite reads (one exported by the same "
    "version); GLOG_v=2 shows the library's reasons";
char crash_message[4096];

void ReportCrash(int) {
  while (write(STDERR_FILENO, crash_message, std::strlen(crash_message)) < 0 && errno == EINTR) {
  }
  _exit(1);
}

// The library crashes on some damaged files instead of returning an error.
void CatchCrashes(const std::string& mindir_path) {
  const std::string text = "main: error: cannot use " + mindir_path + ": " + kUnreadable + "\n";
  std::strncpy(crash_message, text.c_str(), sizeof(crash_message) - 1);
  static char stack[1 << 16];  // where the handler runs when the crash is a stack overflow
  stack_t place = {};
  place.ss_sp = stack;
  place.ss_size = sizeof(stack);
  sigaltstack(&place, nullptr);
  struct sigaction action = {};
  action.sa_handler = ReportCrash;
  action.sa_flags = SA_ONSTACK;
  for (int signal : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT}) {
    sigaction(signal, &action, nullptr);
  }
}

std::shared_ptr<ms::DeviceInfoContext> Device(const Options& options, const std::string& target) {
  if (target == "CPU") return std::make_shared<ms::CPUDeviceInfo>();
  auto device = std::make_shared<ms::Ascend310DeviceInfo>();
  device->SetDeviceID(std::stoul(options.device_id));
  device->SetPrecisionMode("preferred_fp32");  // the name of allow_fp32_to_fp16 in MindSpore Lite
  device->SetOpSelectImplMode("high_precision");
  device->SetBufferOptimizeMode("off_optimize");
  if (!options.fusion_switch_path.empty()) {
    device->SetFusionSwitchConfigPath(options.fusion_switch_path);
  }
  return device;
}

// Returns nothing when the model cannot be loaded on `target`.
std::unique_ptr<ms::Model> LoadOn(const std::string& target, const Options& options) {
  auto context = std::make_shared<ms::Context>();
  context->MutableDeviceInfo().push_back(Device(options, target));
  auto model = std::make_unique<ms::Model>();
  try {
    if (model->Build(options.mindir_path, ms::ModelType::kMindIR, context).IsOk()) return model;
  } catch (const std::exception&) {
    // Some damage is told by a status, some by an exception.
  }
  return nullptr;
}

std::string Describe(const std::vector<ms::MSTensor>& tensors) {
  std::string text;
  for (const ms::MSTensor& tensor : tensors) {
    text += text.empty() ? "[" : " [";
    for (int64_t length : tensor.Shape()) text += std::to_string(length) + " ";
    text += "type " + std::to_string(static_cast<int>(tensor.DataType())) + "]";
  }
  return text;
}

}  // namespace

bool Generator::Load(const Options& options, std::string* error) {
  const bool is_auto = options.device_target == "auto";
  std::string target = is_auto ? "Ascend310" : options.device_target;
  CatchCrashes(options.mindir_path);
  model_ = LoadOn(target, options);
  if (model_ == nullptr && is_auto) {
    target = "CPU";
    model_ = LoadOn(target, options);
  }
  if (model_ == nullptr) {
    const bool is_ascend = target == "Ascend310";
    *error = "cannot load " + options.mindir_path + " on " + target + ": " +
             (is_ascend ? "there is no device " + options.device_id + ", or " : "") + kUnreadable;
    return false;
  }
  const bool is_second = is_auto && target == "CPU";
  std::cout << "device: " << target << (is_second ? " (Ascend310 cannot be used here)" : "")
            << std::endl;
  return ReadSize(options, error);
}

bool Generator::ReadSize(const Options& options, std::string* error) {
  const std::vector<ms::MSTensor> inputs = model_->GetInputs();
  const auto shape = inputs.size() == 1 ? inputs[0].Shape() : std::vector<int64_t>{};
  if (shape.size() != 4 || shape[0] != 1 || shape[1] != 3 || shape[2] < 1 || shape[3] < 1 ||
      inputs[0].DataType() != ms::DataType::kNumberTypeFloat32) {
    *error = options.mindir_path + " takes " + Describe(inputs) +
             ", not one float32 picture [1 3 height width type 43]; export a generator for a "
             "batch of 1";
    return false;
  }
  height_ = static_cast<int>(shape[2]);
  width_ = static_cast<int>(shape[3]);
  return true;
}

bool Generator::Run(const std::vector<float>& picture, std::vector<float>* result,
                    std::string* error) {
  ms::MSTensor input = model_->GetInputs()[0];
  std::vector<ms::MSTensor> outputs;
  const std::vector<ms::MSTensor> inputs = {
      ms::MSTensor(input.Name(), input.DataType(), input.Shape(), picture.data(),
                   picture.size() * sizeof(float))};
  if (model_->Predict(inputs, &outputs).IsError() || outputs.empty() ||
      outputs[0].DataType() != ms::DataType::kNumberTypeFloat32) {
    *error = "the generator gives no float32 result; GLOG_v=2 shows the library's reasons";
    return false;
  }
  result->resize(outputs[0].DataSize() / sizeof(float));
  std::memcpy(result->data(), outputs[0].Data().get(), result->size() * sizeof(float));
  auto is_finite = [](float value) { return std::isfinite(value); };
  if (std::all_of(result->begin(), result->end(), is_finite)) return true;
  *error = "the result is not finite: this file or the .mindir is damaged";
  return false;
}

}  // namespace ugatit
