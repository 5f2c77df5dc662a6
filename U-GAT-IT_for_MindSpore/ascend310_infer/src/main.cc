// SPDX-License-Identifier: Apache-2.0
// Translates a folder of pictures, or of .bin files from preprocess.py, with an exported generator.
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <iostream>
#include <sstream>

#include "generator.h"
#include "options.h"
#include "pictures.h"
#include "utils.h"

namespace ugatit {
namespace {

constexpr char kResults[] = "./result_Files";
constexpr char kTimes[] = "./time_Result";

bool CheckBinaries(const std::vector<std::string>& paths, const Generator& generator,
                   std::string* error) {
  const int64_t expected = int64_t{3} * generator.height() * generator.width() * sizeof(float);
  for (const std::string& path : paths) {
    if (!IsBinary(path) || FileSize(path) == expected) continue;
    *error = path + " has " + std::to_string(FileSize(path)) + " bytes, the generator takes " +
             std::to_string(expected) + " (3x" + std::to_string(generator.height()) + "x" +
             std::to_string(generator.width()) +
             " float32); run preprocess.py with the size of the export";
    return false;
  }
  return true;
}

bool ReadInput(const std::string& path, const Generator& generator, std::vector<float>* values,
               std::string* error) {
  if (!IsBinary(path)) {
    Picture picture;
    if (!DecodePicture(path, &picture, error)) return false;
    *values = ToTensor(ResizePicture(picture, generator.height(), generator.width()));
    return true;
  }
  std::vector<uint8_t> bytes;
  if (!ReadFile(path, &bytes, error)) return false;
  values->resize(bytes.size() / sizeof(float));
  std::memcpy(values->data(), bytes.data(), values->size() * sizeof(float));
  return true;
}

// Writes the results of all files; `milliseconds` is what the generator took, reading left out.
bool Translate(const std::vector<std::string>& paths, Generator* generator, double* milliseconds,
               std::string* error) {
  std::vector<float> values, result;
  for (const std::string& path : paths) {
    if (!ReadInput(path, *generator, &values, error)) return false;
    const auto start = std::chrono::steady_clock::now();
    if (!generator->Run(values, &result, error)) {
      *error = path + ": " + *error;
      return false;
    }
    const auto taken = std::chrono::steady_clock::now() - start;
    *milliseconds += std::chrono::duration<double, std::milli>(taken).count();
    const std::string target = std::string(kResults) + "/" + Stem(path) + "_0.bin";
    if (!WriteFile(target, result.data(), result.size() * sizeof(float), error)) return false;
  }
  return true;
}

bool Infer(const Options& options, std::string* error) {
  std::vector<std::string> paths;
  Generator generator;
  double milliseconds = 0;
  if (!ListInputs(options.input0_path, &paths, error) || !generator.Load(options, error) ||
      !CheckBinaries(paths, generator, error) || !MakeFolder(kResults, error) ||
      !MakeFolder(kTimes, error) || !Translate(paths, &generator, &milliseconds, error)) {
    return false;
  }
  std::ostringstream line;
  line << "NN inference cost average time: " << milliseconds / paths.size()
       << " ms of infer_count " << paths.size() << "\n";
  std::cout << line.str() << std::flush;
  const std::string target = std::string(kTimes) + "/test_perform_static.txt";
  return WriteFile(target, line.str().data(), line.str().size(), error);
}

int Run(int argc, char** argv) {
  Options options;
  std::string error;
  try {
    if (ParseOptions(argc, argv, &options, &error) && options.help) {
      std::cout << kUsage;
      return 0;
    }
    if (error.empty() && Infer(options, &error)) return 0;
  } catch (const std::exception& exception) {
    error = std::string("the library stopped the inference: ") + exception.what();
  }
  std::cerr << "main: error: " << error.substr(0, error.find('\n')) << std::endl;
  return 1;
}

}  // namespace
}  // namespace ugatit

int main(int argc, char** argv) {
  // MindSpore reads GLOG_v when it is loaded, before main; its errors would drown our sentence.
  if (std::getenv("GLOG_v") == nullptr && setenv("GLOG_v", "4", 0) == 0) {
    execv("/proc/self/exe", argv);
  }
  return ugatit::Run(argc, argv);
}
