// SPDX-License-Identifier: Apache-2.0
// Pictures as the network takes them, with the values that preprocess.py gives.
#ifndef UGATIT_INC_PICTURES_H_
#define UGATIT_INC_PICTURES_H_

#include <cstdint>
#include <string>
#include <vector>

namespace ugatit {

struct Picture {
  int height = 0;
  int width = 0;
  std::vector<uint8_t> pixels;  // RGB, [height, width, 3]
};

// Decodes a JPEG, PNG, BMP or PPM file, told by its first bytes and not by its name. What it does
// not decode as preprocess.py does (turned by EXIF, transparent, CMYK, 16 bits, ...) and what is
// damaged is an error.
bool DecodePicture(const std::string& path, Picture* picture, std::string* error);

// Resizes as Pillow's BILINEAR does, bit for bit: a triangle filter as wide as one target pixel, at
// least two source pixels; along the rows, rounded to 8 bits, then along the columns.
Picture ResizePicture(const Picture& picture, int height, int width);

// Returns float32 [3, height, width] in [-1, 1]: (value - 127.5) / 127.5.
std::vector<float> ToTensor(const Picture& picture);

}  // namespace ugatit

#endif  // UGATIT_INC_PICTURES_H_
