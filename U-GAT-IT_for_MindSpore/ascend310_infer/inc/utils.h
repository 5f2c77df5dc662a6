// SPDX-License-Identifier: Apache-2.0
// Files and folders. A function that can fail returns false and puts one sentence into `error`.
#ifndef UGATIT_INC_UTILS_H_
#define UGATIT_INC_UTILS_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace ugatit {

bool IsFolder(const std::string& path);
bool IsFile(const std::string& path);

// Returns the size of a file in bytes, -1 where there is none.
int64_t FileSize(const std::string& path);

// Returns the name in `path` up to its last dot: "in/a.b.jpg" -> "a.b".
std::string Stem(const std::string& path);

// Returns whether the name ends in .bin, in any case.
bool IsBinary(const std::string& path);

// Lists what there is to translate in a folder, sorted: pictures, or files .bin, hidden ones left
// out. It is an error when there is nothing, both kinds, a picture that the client cannot read, or
// two names that would write one result.
bool ListInputs(const std::string& folder, std::vector<std::string>* paths, std::string* error);

// Reads a whole file.
bool ReadFile(const std::string& path, std::vector<uint8_t>* bytes, std::string* error);

// Writes a file whole or not at all: under a hidden temporary name, then renamed.
bool WriteFile(const std::string& path, const void* bytes, size_t size, std::string* error);

// Makes a folder unless it is there.
bool MakeFolder(const std::string& path, std::string* error);

}  // namespace ugatit

#endif  // UGATIT_INC_UTILS_H_
