// Random weights and activations, and how results are compared.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "dispatch.h"
#include "gguf_blocks.h"
#include "half.h"
#include "matrix.h"
#include "pack.h"
#include "thread_pool.h"

namespace lepton {

inline const std::vector<TensorType> kAllTypes = {
    TensorType::kF32,  TensorType::kF16,    TensorType::kBF16,  TensorType::kQ4_0,
    TensorType::kQ4_1, TensorType::kQ5_0,   TensorType::kQ5_1,  TensorType::kQ8_0,
    TensorType::kQ2_K, TensorType::kQ3_K,   TensorType::kQ4_K,  TensorType::kQ5_K,
    TensorType::kQ6_K, TensorType::kIQ4_NL, TensorType::kIQ4_XS};

// SplitMix64: https://prng.di.unimi.it/splitmix64.c
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}

  uint64_t next() {
    uint64_t z = state_ += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
  }
  size_t below(size_t limit) { return next() % limit; }
  // In [-1, 1).
  float real() { return static_cast<float>(static_cast<int64_t>(next()) >> 40) * 0x1p-23f; }

 private:
  uint64_t state_;
};

inline std::vector<float> random_floats(size_t count, uint64_t seed) {
  Random random(seed);
  std::vector<float> values(count);
  for (float& value : values) value = random.real();
  return values;
}

// Rows of which one block is so large that Planes::kAdaptive keeps its second plane; rows need at
// least sixteen blocks for that.
inline std::vector<float> rows_with_spikes(size_t rows, size_t columns, uint64_t seed) {
  std::vector<float> values = random_floats(rows * columns, seed);
  const size_t blocks = columns / kBlockColumns;
  for (size_t r = 0; r < rows; ++r)
    for (size_t i = 0; i < kBlockColumns; ++i)
      values[r * columns + r * 5 % blocks * kBlockColumns + i] *= 30.0f;
  return values;
}

// Where a block of a quantized type keeps its f16 factors.
inline std::vector<size_t> factor_offsets(TensorType type) {
  switch (type) {
    case TensorType::kQ2_K:
      return {80, 82};
    case TensorType::kQ3_K:
      return {108};
    case TensorType::kQ6_K:
      return {208};
    case TensorType::kQ4_1:
    case TensorType::kQ5_1:
    case TensorType::kQ4_K:
    case TensorType::kQ5_K:
      return {0, 2};
    default:
      return {0};
  }
}

// Rows as a file holds them: any codes, moderate factors.
inline std::vector<uint8_t> random_source(TensorType type, size_t rows, size_t columns,
                                          uint64_t seed) {
  Random random(seed);
  std::vector<uint8_t> source(rows * row_bytes(type, columns));
  if (type == TensorType::kF32) {
    const std::vector<float> values = random_floats(rows * columns, seed);
    std::memcpy(source.data(), values.data(), source.size());
  } else if (!is_quantized(type)) {
    for (size_t i = 0; i < source.size(); i += 2) {
      const float value = random.real();
      const uint16_t bits =
          type == TensorType::kF16 ? float_to_half(value) : float_to_bfloat16(value);
      std::memcpy(&source[i], &bits, 2);
    }
  } else {
    for (uint8_t& byte : source) byte = static_cast<uint8_t>(random.next());
    size_t block = 0;
    visit_quantized(type, [&]<TensorType T>() { block = kSourceBlockBytes<T>; });
    for (size_t begin = 0; begin < source.size(); begin += block) {
      for (const size_t offset : factor_offsets(type)) {
        const uint16_t factor = float_to_half(random.real() * 0.05f);
        std::memcpy(&source[begin + offset], &factor, 2);
      }
    }
  }
  return source;
}

inline std::shared_ptr<const Matrix> random_matrix(TensorType type, size_t rows, size_t columns,
                                                   uint64_t seed) {
  ThreadPool pool(1);
  const auto matrix = std::make_shared<Matrix>(type, rows, columns);
  const std::vector<uint8_t> source = random_source(type, rows, columns, seed);
  matrix->pack_rows(0, type, source.data(), source.size(), pool);
  return matrix;
}

// How many of the first `count` floats differ in any bit; a NaN equals a NaN.
inline size_t differences(const float* a, const float* b, size_t count) {
  size_t different = 0;
  for (size_t i = 0; i < count; ++i) {
    const bool both_nan = a[i] != a[i] && b[i] != b[i];
    different += !both_nan && float_to_bits(a[i]) != float_to_bits(b[i]);
  }
  return different;
}

}  // namespace lepton
