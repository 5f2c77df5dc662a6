// SPDX-License-Identifier: Apache-2.0
#include "utils.h"

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <map>

namespace ugatit {
namespace {

const char* const kDecoded[] = {".bmp", ".jpeg", ".jpg", ".png", ".ppm"};
const char* const kOthers[] = {".tif", ".tiff", ".webp"};  // what preprocess.py reads besides

std::string Name(const std::string& path) { return path.substr(path.find_last_of('/') + 1); }

std::string LowerEnding(const std::string& path) {
  std::string name = Name(path);
  size_t dot = name.find_last_of('.');
  std::string ending = dot == std::string::npos ? "" : name.substr(dot);
  for (char& letter : ending) letter = std::tolower(static_cast<unsigned char>(letter));
  return ending;
}

template <size_t N>
bool Holds(const char* const (&endings)[N], const std::string& ending) {
  return std::find(endings, endings + N, ending) != endings + N;
}

bool ListFiles(const std::string& folder, std::vector<std::string>* paths, std::string* error) {
  if (!IsFolder(folder)) {
    *error = "there is no folder " + folder + "; give a folder of pictures or .bin files";
    return false;
  }
  DIR* handle = opendir(folder.c_str());
  if (handle == nullptr) {
    *error = "cannot read the folder " + folder + ": " + std::strerror(errno);
    return false;
  }
  while (const dirent* entry = readdir(handle)) {
    std::string path = folder + (folder.back() == '/' ? "" : "/") + entry->d_name;
    if (entry->d_name[0] != '.' && IsFile(path)) paths->push_back(path);
  }
  closedir(handle);
  std::sort(paths->begin(), paths->end());
  return true;
}

}  // namespace

bool IsFolder(const std::string& path) {
  struct stat status;
  return stat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode);
}

bool IsFile(const std::string& path) { return FileSize(path) >= 0; }

int64_t FileSize(const std::string& path) {
  struct stat status;
  if (stat(path.c_str(), &status) != 0 || !S_ISREG(status.st_mode)) return -1;
  return status.st_size;
}

std::string Stem(const std::string& path) {
  std::string name = Name(path);
  return name.substr(0, name.find_last_of('.'));
}

bool IsBinary(const std::string& path) { return LowerEnding(path) == ".bin"; }

bool ListInputs(const std::string& folder, std::vector<std::string>* paths, std::string* error) {
  std::vector<std::string> files;
  if (!ListFiles(folder, &files, error)) return false;
  std::map<std::string, std::string> names;  // stem -> name
  paths->clear();
  for (const std::string& path : files) {
    std::string ending = LowerEnding(path), name = Name(path);
    if (Holds(kOthers, ending)) {
      *error = path + " is a picture that only preprocess.py reads; run that, give its .bin files";
      return false;
    }
    if (!IsBinary(path) && !Holds(kDecoded, ending)) continue;
    auto [place, is_new] = names.emplace(Stem(path), name);
    if (!is_new) {
      *error = place->second + " and " + name + " in " + folder + " would both write " +
               Stem(path) + "_0.bin; rename one of them";
      return false;
    }
    if (!paths->empty() && IsBinary(path) != IsBinary(paths->front())) {
      *error = folder + " holds both pictures (" + (IsBinary(path) ? Name(paths->front()) : name) +
               ") and .bin files; give a folder with one kind of them";
      return false;
    }
    paths->push_back(path);
  }
  if (!paths->empty()) return true;
  *error = "the folder " + folder + " holds no picture and no .bin file (.bin";
  for (const char* ending : kDecoded) *error += std::string(" ") + ending;
  *error += ")";
  return false;
}

bool ReadFile(const std::string& path, std::vector<uint8_t>* bytes, std::string* error) {
  std::ifstream file(path, std::ios::binary);
  bytes->resize(std::max<int64_t>(FileSize(path), 0));
  file.read(reinterpret_cast<char*>(bytes->data()), bytes->size());
  if (file && static_cast<size_t>(file.gcount()) == bytes->size()) return true;
  *error = "cannot read " + path + ": " + std::strerror(errno);
  return false;
}

bool WriteFile(const std::string& path, const void* bytes, size_t size, std::string* error) {
  size_t slash = path.find_last_of('/');
  std::string folder = slash == std::string::npos ? "" : path.substr(0, slash + 1);
  std::string temporary = folder + "." + std::to_string(getpid()) + "-" + Name(path);
  std::ofstream file(temporary, std::ios::binary);
  file.write(static_cast<const char*>(bytes), size);
  file.close();
  if (file && std::rename(temporary.c_str(), path.c_str()) == 0) return true;
  *error = "cannot write " + path + ": " + std::strerror(errno) + "; choose another folder";
  std::remove(temporary.c_str());
  return false;
}

bool MakeFolder(const std::string& path, std::string* error) {
  if (mkdir(path.c_str(), 0777) == 0 || IsFolder(path)) return true;
  *error = "cannot make the folder " + path + ": " + std::strerror(errno);
  return false;
}

}  // namespace ugatit
