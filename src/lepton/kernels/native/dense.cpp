#include "dense.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <stdexcept>
#include <string>

#include "half.h"

namespace lepton {

namespace {

constexpr size_t kLargestSide = size_t{1} << 24;

// As whole numbers, weights that are not finite would give vectors that are wrong and look right.
void check_finite(const float* values, size_t count, size_t row) {
  constexpr uint32_t kExponent = 0x7f800000u;
  uint32_t found = 0;
  for (size_t i = 0; i < count; ++i) found |= (float_to_bits(values[i]) & kExponent) == kExponent;
  if (found != 0)
    throw std::invalid_argument("row " + std::to_string(row) +
                                " holds a number that is not finite");
}

}  // namespace

DenseMatrix::DenseMatrix(DenseType type, size_t rows, size_t columns)
    : type_(type),
      rows_(rows),
      columns_(columns),
      steps_((columns + inputs_per_step(type) - 1) / inputs_per_step(type)) {
  if (rows == 0 || columns == 0 || rows > kLargestSide || columns > kLargestSide)
    throw std::invalid_argument("matrix dimensions must be between 1 and 2^24");
  data_ = AlignedBuffer::on_shared_pages(panels() * panel_bytes());
  if (!has_scales(type)) return;
  scales_.resize(panels() * 16, 0.0f);
  sums_.resize(panels() * 16, 0.0f);
  if (type == DenseType::kInt8) starts_.resize(panels() * 16, 0);
}

void DenseMatrix::pack_rows(size_t first, const float* source, size_t count) {
  if (first > rows_ || count > rows_ - first)
    throw std::invalid_argument("the matrix does not have so many rows");
  const size_t inputs = inputs_per_step(type_), element = 4 / inputs;
  for (size_t r = first; r < first + count; ++r, source += columns_) {
    check_finite(source, columns_, r);
    uint8_t* target = data_.data() + r / 16 * panel_bytes() + r % 16 * 4;
    const float inverse = has_scales(type_) ? steps_of_one(source) : 0.0f;
    int64_t sum = 0;
    for (size_t c = 0; c < columns_; ++c) {
      uint8_t* at = target + c / inputs * 64 + c % inputs * element;
      if (type_ == DenseType::kFloat32) {
        std::memcpy(at, source + c, sizeof(float));
      } else if (type_ == DenseType::kBFloat16) {
        const uint16_t half = float_to_bfloat16(source[c]);
        std::memcpy(at, &half, sizeof half);
      } else {
        // The first bytes of a little-endian number, as many as the type has.
        const auto whole = static_cast<int32_t>(std::nearbyint(source[c] * inverse));
        std::memcpy(at, &whole, element);
        sum += whole;
      }
    }
    if (!has_scales(type_)) continue;
    scales_[r] = inverse > 0.0f ? 1.0f / inverse : 0.0f;
    sums_[r] = scales_[r] * static_cast<float>(sum);
    if (type_ == DenseType::kInt8) starts_[r] = static_cast<int32_t>(-kStateOffset * sum);
  }
}

float DenseMatrix::steps_of_one(const float* row) const {
  float largest = 0.0f;
  for (size_t c = 0; c < columns_; ++c) largest = std::max(largest, std::fabs(row[c]));
  if (!(largest > 0x1p-110f)) return 0.0f;
  if (type_ == DenseType::kInt8) {
    // Each of two that sum to 127 may be rounded up. Halves, as the sum may not be a float.
    float half = 0.5f * largest;
    for (size_t c = 0; c + 1 < columns_; c += 2)
      half = std::max(half, std::fabs(0.5f * row[c] + 0.5f * row[c + 1]));
    return 63.5f / half;
  }
  double squares = 0.0;
  for (size_t c = 0; c < columns_; ++c) {
    const double part = double{row[c]} / double{largest};
    squares += part * part;
  }
  const auto length = static_cast<float>(std::sqrt(squares));
  return std::min(32767.0f, longest_words(columns_) / length) / largest;
}

VectorTable::VectorTable(DenseType type, size_t rows, size_t columns)
    : half_(type != DenseType::kFloat32), rows_(rows), columns_(columns) {
  if (rows == 0 || columns == 0 || rows > kLargestSide || columns > kLargestSide)
    throw std::invalid_argument("table dimensions must be between 1 and 2^24");
  data_ = AlignedBuffer(rows * columns * (half_ ? sizeof(uint16_t) : sizeof(float)));
}

void VectorTable::pack_rows(size_t first, const float* source, size_t count) {
  if (first > rows_ || count > rows_ - first)
    throw std::invalid_argument("the table does not have so many rows");
  for (size_t r = first; r < first + count; ++r, source += columns_) {
    check_finite(source, columns_, r);
    const size_t begin = r * columns_;
    if (!half_) {
      std::memcpy(data_.as<float>() + begin, source, columns_ * sizeof(float));
      continue;
    }
    for (size_t c = 0; c < columns_; ++c)
      data_.as<uint16_t>()[begin + c] = float_to_bfloat16(source[c]);
  }
}

void VectorTable::unpack_row(size_t row, float* out) const {
  const size_t begin = row * columns_;
  if (!half_) {
    std::memcpy(out, data_.as<float>() + begin, columns_ * sizeof(float));
    return;
  }
  for (size_t i = 0; i < columns_; ++i) out[i] = bfloat16_to_float(data_.as<uint16_t>()[begin + i]);
}

}  // namespace lepton
