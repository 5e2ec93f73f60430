// Reads the quantized blocks of GGUF files, 32 values at a time. Layouts as in the GGML format
// documentation; every multi-byte number is little-endian.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "panel.h"

namespace lepton {

// 32 consecutive values of one row, in the terms of panel.h. Factors are f16 bits.
struct BlockValues {
  uint8_t codes[kBlockColumns];
  uint16_t scale = 0;
  uint16_t minimum = 0;
  uint8_t scale_multiplier[2] = {};
  uint8_t minimum_multiplier[2] = {};
};

// Bytes in the file of one block (32 values) or, for the K types, super-block (256 values).
template <TensorType T>
constexpr size_t kSourceBlockBytes = 0;
template <>
inline constexpr size_t kSourceBlockBytes<TensorType::kQ4_0> = 18;
template <>
inline constexpr size_t kSourceBlockBytes<TensorType::kQ4_1> = 20;
template <>
inline constexpr size_t kSourceBlockBytes<TensorType::kQ5_0> = 22;
template <>
inline constexpr size_t kSourceBlockBytes<TensorType::kQ5_1> = 24;
template <>
inline constexpr size_t kSourceBlockBytes<TensorType::kQ8_0> = 34;
template <>
inline constexpr size_t kSourceBlockBytes<TensorType::kQ2_K> = 84;
template <>
inline constexpr size_t kSourceBlockBytes<TensorType::kQ3_K> = 110;
template <>
inline constexpr size_t kSourceBlockBytes<TensorType::kQ4_K> = 144;
template <>
inline constexpr size_t kSourceBlockBytes<TensorType::kQ5_K> = 176;
template <>
inline constexpr size_t kSourceBlockBytes<TensorType::kQ6_K> = 210;
template <>
inline constexpr size_t kSourceBlockBytes<TensorType::kIQ4_NL> = 18;
template <>
inline constexpr size_t kSourceBlockBytes<TensorType::kIQ4_XS> = 136;

inline uint16_t read_u16(const uint8_t* p) { return static_cast<uint16_t>(p[0] | p[1] << 8); }

// Low nibbles are values 0 … 15, high nibbles values 16 … 31.
inline void read_nibbles(const uint8_t* p, uint8_t* codes) {
  for (int i = 0; i < 16; ++i) {
    codes[i] = p[i] & 15;
    codes[i + 16] = p[i] >> 4;
  }
}

// Adds bit i of a 32-bit little-endian word to code i as its fifth bit, eight codes at a time.
inline void add_fifth_bits(const uint8_t* p, uint8_t* codes) {
  for (int i = 0; i < 4; ++i) {
    // Byte b keeps bit b of the eight; one that is not zero overflows into its highest bit.
    const uint64_t spread = p[i] * 0x0101010101010101u & 0x8040201008040201u;
    const uint64_t fifth = ((spread + 0x7f7f7f7f7f7f7f7fu) & 0x8080808080808080u) >> 3;
    uint64_t eight;
    std::memcpy(&eight, codes + i * 8, 8);
    eight |= fifth;
    std::memcpy(codes + i * 8, &eight, 8);
  }
}

// Six-bit scale and minimum of sub-block `index` from the twelve bytes of Q4_K and Q5_K.
inline void read_six_bit_pair(const uint8_t* p, int index, uint8_t& scale, uint8_t& minimum) {
  if (index < 4) {
    scale = p[index] & 63;
    minimum = p[index + 4] & 63;
  } else {
    scale = static_cast<uint8_t>((p[index + 4] & 15) | (p[index - 4] >> 6) << 4);
    minimum = static_cast<uint8_t>((p[index + 4] >> 4) | (p[index] >> 6) << 4);
  }
}

// Values 32 `block` … 32 `block` + 31 of a row that starts at `row`.
template <TensorType T>
BlockValues read_block(const uint8_t* row, size_t block) {
  BlockValues v;
  const uint8_t* p = row + block / LayoutOf<T>::kBlocksPerSuper * kSourceBlockBytes<T>;
  const int sub = static_cast<int>(block % LayoutOf<T>::kBlocksPerSuper);

  if constexpr (T == TensorType::kQ4_0 || T == TensorType::kIQ4_NL) {
    v.scale = read_u16(p);
    read_nibbles(p + 2, v.codes);
  } else if constexpr (T == TensorType::kQ4_1) {
    v.scale = read_u16(p);
    v.minimum = read_u16(p + 2);
    read_nibbles(p + 4, v.codes);
  } else if constexpr (T == TensorType::kQ5_0) {
    v.scale = read_u16(p);
    read_nibbles(p + 6, v.codes);
    add_fifth_bits(p + 2, v.codes);
  } else if constexpr (T == TensorType::kQ5_1) {
    v.scale = read_u16(p);
    v.minimum = read_u16(p + 2);
    read_nibbles(p + 8, v.codes);
    add_fifth_bits(p + 4, v.codes);
  } else if constexpr (T == TensorType::kQ8_0) {
    v.scale = read_u16(p);
    std::memcpy(v.codes, p + 2, 32);
  } else if constexpr (T == TensorType::kQ2_K) {
    // 16 × (4-bit scale, 4-bit minimum), 64 bytes of 2-bit codes, d, dmin.
    const uint8_t* codes = p + 16 + sub / 4 * 32;
    for (int i = 0; i < 32; ++i) v.codes[i] = codes[i] >> (sub % 4 * 2) & 3;
    for (int g = 0; g < 2; ++g) {
      v.scale_multiplier[g] = p[sub * 2 + g] & 15;
      v.minimum_multiplier[g] = p[sub * 2 + g] >> 4;
    }
    v.scale = read_u16(p + 80);
    v.minimum = read_u16(p + 82);
  } else if constexpr (T == TensorType::kQ3_K) {
    // 32 bytes of third bits, 64 bytes of 2-bit codes, 16 six-bit scales in 12 bytes, d.
    const uint8_t* codes = p + 32 + sub / 4 * 32;
    for (int i = 0; i < 32; ++i)
      v.codes[i] = static_cast<uint8_t>((codes[i] >> (sub % 4 * 2) & 3) | (p[i] >> sub & 1) << 2);
    const uint8_t* scales = p + 96;
    for (int g = 0; g < 2; ++g) {
      const int index = sub * 2 + g;
      const int low = scales[index % 8] >> (index / 8 * 4) & 15;
      const int high = scales[8 + index % 4] >> (index / 4 * 2) & 3;
      v.scale_multiplier[g] = static_cast<uint8_t>((low | high << 4) - 32);
    }
    v.scale = read_u16(p + 108);
  } else if constexpr (T == TensorType::kQ4_K || T == TensorType::kQ5_K) {
    // d, dmin, 12 bytes of scales and minimums, [32 bytes of fifth bits,] 128 bytes of nibbles.
    v.scale = read_u16(p);
    v.minimum = read_u16(p + 2);
    read_six_bit_pair(p + 4, sub, v.scale_multiplier[0], v.minimum_multiplier[0]);
    const uint8_t* nibbles = p + (T == TensorType::kQ5_K ? 48 : 16) + sub / 2 * 32;
    for (int i = 0; i < 32; ++i) {
      v.codes[i] = nibbles[i] >> (sub % 2 * 4) & 15;
      if constexpr (T == TensorType::kQ5_K)
        v.codes[i] = static_cast<uint8_t>(v.codes[i] | (p[16 + i] >> sub & 1) << 4);
    }
  } else if constexpr (T == TensorType::kQ6_K) {
    // 128 bytes of low nibbles, 64 bytes of high pairs, 16 signed scales, d; two halves of 128.
    const int half = sub / 4, quarter = sub % 4;
    const uint8_t* low = p + half * 64 + quarter % 2 * 32;
    const uint8_t* high = p + 128 + half * 32;
    for (int i = 0; i < 32; ++i)
      v.codes[i] = static_cast<uint8_t>((low[i] >> (quarter / 2 * 4) & 15) |
                                        (high[i] >> (quarter * 2) & 3) << 4);
    for (int g = 0; g < 2; ++g) v.scale_multiplier[g] = p[192 + sub * 2 + g];
    v.scale = read_u16(p + 208);
  } else {
    static_assert(T == TensorType::kIQ4_XS);
    // d, 16 bits of high scale pairs, 4 bytes of low scale nibbles, 128 bytes of nibbles.
    v.scale = read_u16(p);
    const int low = p[4 + sub / 2] >> (sub % 2 * 4) & 15;
    const int high = read_u16(p + 2) >> (sub * 2) & 3;
    v.scale_multiplier[0] = static_cast<uint8_t>((low | high << 4) - 32);
    read_nibbles(p + 8 + sub * 16, v.codes);
  }
  return v;
}

}  // namespace lepton
