// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <cstddef>

#include "pictures.h"

namespace ugatit {
namespace {

constexpr int kFractionBits = 22;  // of a weight; with 8 bits of value the sum fits 32 bits
constexpr int kHalf = 1 << (kFractionBits - 1);

// What one target pixel is made of: source pixels first, first + 1, ... with fixed-point weights.
struct Window {
  int first = 0;
  std::vector<int> weights;
};

std::vector<Window> Windows(int source, int target) {
  const double scale = static_cast<double>(source) / target;
  const double radius = std::max(scale, 1.0);
  std::vector<Window> windows(target);
  for (int i = 0; i < target; ++i) {
    const double centre = (i + 0.5) * scale;
    windows[i].first = std::max(0, static_cast<int>(centre - radius + 0.5));
    const int end = std::min(source, static_cast<int>(centre + radius + 0.5));
    std::vector<double> triangle;
    double total = 0;
    for (int x = windows[i].first; x < end; ++x) {
      const double distance = std::fabs((x - centre + 0.5) * (1.0 / radius));
      triangle.push_back(std::max(0.0, 1.0 - distance));
      total += triangle.back();
    }
    for (double weight : triangle) {
      windows[i].weights.push_back(static_cast<int>(0.5 + weight / total * (1 << kFractionBits)));
    }
  }
  return windows;
}

uint8_t Round(int sum) { return std::clamp((sum + kHalf) >> kFractionBits, 0, 255); }

}  // namespace

Picture ResizePicture(const Picture& picture, int height, int width) {
  Picture narrow{picture.height, width, {}};
  narrow.pixels.resize(size_t{3} * picture.height * width);
  const std::vector<Window> columns = Windows(picture.width, width);
  for (int y = 0; y < picture.height; ++y) {
    const uint8_t* row = &picture.pixels[size_t{3} * y * picture.width];
    for (int x = 0; x < width; ++x) {
      for (int c = 0; c < 3; ++c) {
        int sum = 0;
        const uint8_t* value = row + size_t{3} * columns[x].first + c;
        for (int weight : columns[x].weights) sum += weight * *value, value += 3;
        narrow.pixels[(size_t{3} * y * width) + 3 * x + c] = Round(sum);
      }
    }
  }
  Picture result{height, width, {}};
  const size_t stride = size_t{3} * width;
  result.pixels.resize(height * stride);
  const std::vector<Window> rows = Windows(picture.height, height);
  for (int y = 0; y < height; ++y) {
    for (size_t i = 0; i < stride; ++i) {
      int sum = 0;
      const uint8_t* value = &narrow.pixels[rows[y].first * stride + i];
      for (int weight : rows[y].weights) sum += weight * *value, value += stride;
      result.pixels[y * stride + i] = Round(sum);
    }
  }
  return result;
}

std::vector<float> ToTensor(const Picture& picture) {
  const size_t plane = size_t{1} * picture.height * picture.width;
  std::vector<float> tensor(3 * plane);
  for (size_t i = 0; i < plane; ++i) {
    for (size_t c = 0; c < 3; ++c) {
      tensor[c * plane + i] = (picture.pixels[3 * i + c] - 127.5f) / 127.5f;
    }
  }
  return tensor;
}

}  // namespace ugatit
