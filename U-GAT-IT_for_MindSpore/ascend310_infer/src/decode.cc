// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <csetjmp>
#include <cstddef>
#include <cstdio>
#include <cstring>

#include "pictures.h"
#include "utils.h"
#ifdef HAVE_JPEG
#include <jerror.h>
#include <jpeglib.h>
#endif
#ifdef HAVE_PNG
#include <png.h>
#endif

namespace ugatit {
namespace {

using Bytes = std::vector<uint8_t>;

constexpr int64_t kMostPixels = 178956970;  // Pillow's limit, which preprocess.py keeps
constexpr char kCutOff[] = "it ends too early";

// A decoder returns true and the picture, or false and one of these two.
struct Problem {
  std::string damage;   // why the file cannot be decoded
  std::string feature;  // what is right about it, but is not decoded here
};

bool Damaged(const std::string& why, Problem* problem) {
  problem->damage = why;
  return false;
}

bool NotHere(const std::string& what, Problem* problem) {
  problem->feature = what;
  return false;
}

bool SetSize(int64_t width, int64_t height, Picture* picture, Problem* problem) {
  if (width <= 0 || height <= 0 || width > kMostPixels || height > kMostPixels / width) {
    return Damaged("its size of " + std::to_string(width) + "x" + std::to_string(height) +
                       " pixels is not possible",
                   problem);
  }
  picture->width = static_cast<int>(width);
  picture->height = static_cast<int>(height);
  picture->pixels.resize(size_t{3} * width * height);
  return true;
}

#if defined(HAVE_JPEG) || defined(HAVE_PNG)
uint32_t Number(const uint8_t* bytes, int count, bool big_endian) {
  uint32_t number = 0;
  for (int i = 0; i < count; ++i) number = number << 8 | bytes[big_endian ? i : count - 1 - i];
  return number;
}

// Returns whether EXIF data, from their TIFF header on, say that the picture is to be turned.
bool IsTurned(const uint8_t* exif, size_t size) {
  constexpr uint32_t kOrientation = 0x0112;
  if (size < 8) return false;
  const bool big = exif[0] == 'M';
  const size_t directory = Number(exif + 4, 4, big);
  if (directory > size - 2) return false;
  const size_t count = Number(exif + directory, 2, big);
  for (size_t at = directory + 2, i = 0; i < count && at + 12 <= size; ++i, at += 12) {
    if (Number(exif + at, 2, big) != kOrientation) continue;
    const uint32_t orientation = Number(exif + at + 8, 2, big);
    return orientation >= 2 && orientation <= 8;
  }
  return false;
}
#endif

#ifdef HAVE_JPEG
struct JpegError {
  jpeg_error_mgr base;  // first, so that a pointer to it is one to this
  std::jmp_buf escape;
  char text[JMSG_LENGTH_MAX];
};

void EscapeJpeg(j_common_ptr info) {
  auto* error = reinterpret_cast<JpegError*>(info->err);
  error->base.format_message(info, error->text);
  std::longjmp(error->escape, 1);
}

void WarnJpeg(j_common_ptr info, int level) {
  if (level < 0 && info->err->msg_code == JWRN_JPEG_EOF) EscapeJpeg(info);
}

bool StartJpeg(jpeg_decompress_struct* info, Picture* picture, Problem* problem) {
  jpeg_read_header(info, TRUE);
  for (auto* marker = info->marker_list; marker != nullptr; marker = marker->next) {
    const bool is_exif = marker->data_length > 6 && std::memcmp(marker->data, "Exif\0", 6) == 0;
    if (is_exif && IsTurned(marker->data + 6, marker->data_length - 6)) {
      return NotHere("is turned by its EXIF data", problem);
    }
  }
  if (info->num_components == 4) return NotHere("has CMYK colours", problem);
  info->out_color_space = JCS_RGB;
  return SetSize(info->image_width, info->image_height, picture, problem);
}

// No object with a destructor lives here: the library leaves by longjmp.
bool DecodeJpeg(const Bytes& bytes, Picture* picture, Problem* problem) {
  jpeg_decompress_struct info;
  JpegError error;
  info.err = jpeg_std_error(&error.base);
  error.base.error_exit = EscapeJpeg;
  error.base.emit_message = WarnJpeg;
  if (setjmp(error.escape)) {
    jpeg_destroy_decompress(&info);
    return Damaged(error.text, problem);
  }
  jpeg_create_decompress(&info);
  jpeg_mem_src(&info, bytes.data(), bytes.size());
  jpeg_save_markers(&info, JPEG_APP0 + 1, 0xffff);
  const bool is_started = StartJpeg(&info, picture, problem);
  if (is_started) {
    jpeg_start_decompress(&info);
    while (info.output_scanline < info.output_height) {
      JSAMPROW row = &picture->pixels[size_t{3} * info.output_scanline * info.output_width];
      jpeg_read_scanlines(&info, &row, 1);
    }
    jpeg_finish_decompress(&info);
  }
  jpeg_destroy_decompress(&info);
  return is_started;
}
#endif

#ifdef HAVE_PNG
struct PngSource {
  const Bytes& bytes;
  size_t position;
  std::vector<png_bytep> rows;
  std::string error;
};

void ReadPng(png_structp png, png_bytep target, size_t size) {
  auto* source = static_cast<PngSource*>(png_get_io_ptr(png));
  if (size > source->bytes.size() - source->position) png_error(png, kCutOff);
  std::memcpy(target, &source->bytes[source->position], size);
  source->position += size;
}

void EscapePng(png_structp png, png_const_charp text) {
  static_cast<PngSource*>(png_get_error_ptr(png))->error = text;
  png_longjmp(png, 1);
}

void IgnorePngWarning(png_structp, png_const_charp) {}

bool StartPng(png_structp png, png_infop info, Picture* picture, Problem* problem) {
  png_read_info(png, info);
  if (png_get_bit_depth(png, info) == 16) return NotHere("has 16 bits a value", problem);
  const bool has_alpha = (png_get_color_type(png, info) & PNG_COLOR_MASK_ALPHA) != 0;
  if (has_alpha || png_get_valid(png, info, PNG_INFO_tRNS)) {
    return NotHere("is transparent", problem);
  }
  png_set_expand(png);
  png_set_gray_to_rgb(png);
  png_set_interlace_handling(png);
  png_read_update_info(png, info);
  return SetSize(png_get_image_width(png, info), png_get_image_height(png, info), picture, problem);
}

// Reads what stands between the header and the end; the library leaves by longjmp.
bool ReadPngRows(png_structp png, png_infop info, PngSource* source, Picture* picture,
                 Problem* problem) {
  if (setjmp(png_jmpbuf(png))) return Damaged(source->error, problem);
  if (!StartPng(png, info, picture, problem)) return false;
  source->rows.resize(picture->height);
  for (int y = 0; y < picture->height; ++y) {
    source->rows[y] = &picture->pixels[size_t{3} * y * picture->width];
  }
  png_read_image(png, source->rows.data());
  png_read_end(png, info);
  png_bytep exif = nullptr;
  png_uint_32 size = 0;
  if (!png_get_eXIf_1(png, info, &size, &exif) || !IsTurned(exif, size)) return true;
  return NotHere("is turned by its EXIF data", problem);
}

bool DecodePng(const Bytes& bytes, Picture* picture, Problem* problem) {
  PngSource source{bytes, 0, {}, {}};
  png_structp png =
      png_create_read_struct(PNG_LIBPNG_VER_STRING, &source, EscapePng, IgnorePngWarning);
  png_infop info = png == nullptr ? nullptr : png_create_info_struct(png);
  bool is_read = false;
  if (info == nullptr) {
    Damaged("libpng has another version than its header", problem);
  } else {
    png_set_read_fn(png, &source, ReadPng);
    is_read = ReadPngRows(png, info, &source, picture, problem);
  }
  png_destroy_read_struct(&png, &info, nullptr);
  return is_read;
}
#endif

bool DecodeBmp(const Bytes& bytes, Picture* picture, Problem* problem) {
  if (bytes.size() < 54) return Damaged(kCutOff, problem);
  auto number = [&bytes](size_t at, int count) {
    uint32_t value = 0;
    while (count-- > 0) value = value << 8 | bytes[at + count];
    return value;
  };
  if (number(28, 2) != 24 || number(30, 4) != 0) {
    return NotHere("is a BMP other than 24 bits uncompressed", problem);
  }
  const int32_t height = static_cast<int32_t>(number(22, 4));  // negative: rows from top to bottom
  const int64_t rows = height < 0 ? -int64_t{height} : height;
  if (!SetSize(static_cast<int32_t>(number(18, 4)), rows, picture, problem)) return false;
  const size_t offset = number(10, 4), stride = (size_t{3} * picture->width + 3) / 4 * 4;
  if (offset + stride * rows > bytes.size()) return Damaged(kCutOff, problem);
  for (int y = 0; y < picture->height; ++y) {
    const uint8_t* row = &bytes[offset + stride * (height < 0 ? y : picture->height - 1 - y)];
    uint8_t* target = &picture->pixels[size_t{3} * y * picture->width];
    for (int x = 0; x < picture->width; ++x) {
      for (int c = 0; c < 3; ++c) target[3 * x + c] = row[3 * x + 2 - c];  // stored as BGR
    }
  }
  return true;
}

// Reads a number of the header of a PPM, after white space and comments; -1 where there is none.
int64_t PpmNumber(const Bytes& bytes, size_t* at) {
  while (*at < bytes.size() && (std::strchr(" \t\r\n", bytes[*at]) || bytes[*at] == '#')) {
    if (bytes[*at] == '#') *at = std::find(&bytes[*at], &bytes.back(), '\n') - bytes.data();
    ++*at;
  }
  int64_t value = -1;
  for (; *at < bytes.size() && bytes[*at] >= '0' && bytes[*at] <= '9'; ++*at) {
    value = std::min<int64_t>(10 * std::max<int64_t>(value, 0) + bytes[*at] - '0', kMostPixels + 1);
  }
  return value;
}

bool DecodePpm(const Bytes& bytes, Picture* picture, Problem* problem) {
  size_t at = 2;
  const int64_t width = PpmNumber(bytes, &at), height = PpmNumber(bytes, &at);
  const int64_t most = PpmNumber(bytes, &at);
  if (!SetSize(width, height, picture, problem)) return false;
  if (most != 255) return NotHere("is a PPM with another maximum than 255", problem);
  if (bytes.size() < at + 1 + picture->pixels.size()) return Damaged(kCutOff, problem);
  std::copy_n(&bytes[at + 1], picture->pixels.size(), picture->pixels.begin());
  return true;
}

bool Decode(const Bytes& bytes, Picture* picture, Problem* problem) {
  auto begins = [&bytes](const char* text, size_t size) {
    return bytes.size() >= size && std::memcmp(bytes.data(), text, size) == 0;
  };
  if (begins("BM", 2)) return DecodeBmp(bytes, picture, problem);
  if (begins("P6", 2)) return DecodePpm(bytes, picture, problem);
  if (begins("\xff\xd8\xff", 3)) {
#ifdef HAVE_JPEG
    return DecodeJpeg(bytes, picture, problem);
#else
    return NotHere("is a JPEG file and libjpeg was missing at compile time", problem);
#endif
  }
  if (begins("\x89PNG", 4)) {
#ifdef HAVE_PNG
    return DecodePng(bytes, picture, problem);
#else
    return NotHere("is a PNG file and libpng was missing at compile time", problem);
#endif
  }
  return NotHere("is no JPEG, PNG, BMP or PPM file", problem);
}

}  // namespace

bool DecodePicture(const std::string& path, Picture* picture, std::string* error) {
  Bytes bytes;
  Problem problem;
  if (!ReadFile(path, &bytes, error)) return false;
  if (Decode(bytes, picture, &problem)) return true;
  *error = problem.feature.empty()
               ? path + " cannot be read as a picture: " + problem.damage
               : path + " " + problem.feature + "; run preprocess.py and give its .bin files";
  return false;
}

}  // namespace ugatit
