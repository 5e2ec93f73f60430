// Portable vectors: sixteen lanes as plain arrays. Every other instruction set gives the same bits.
// Loops over lanes are functions of their own: inlined they take minutes to compile.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "half.h"

namespace {

struct Simd {
  static constexpr const char* kName = "scalar";
  // What signed_operand adds to a weight; the caller starts the sum at -kSignedBias times the sum
  // of the activations.
  static constexpr int kSignedBias = 0;
  // Whether products go through words (see WordDot) for want of four-way byte products.
  static constexpr bool kWords = false;
  // Whether pairs of bf16 are multiplied in one instruction.
  static constexpr bool kPairProducts = false;
  // Panels that many rows pass together.
  static constexpr size_t kPanelTile = 1;
  // Rows whose sums stay in registers while weights pass, with one vector to a sum and with two.
  static constexpr int kFewRows = 1;
  static constexpr int kFewWideRows = 1;
  // Rows of a tile of quantized products, and of float ones.
  static constexpr size_t kRowTile = 4;
  static constexpr size_t kFloatRows = 6;
  // Queries that share a load of keys and values.
  static constexpr size_t kQueryTile = 6;
  // Sums of attention that do not wait for one another.
  static constexpr int kAttendSums = 1;

  struct F {
    float lane[16];
  };
  struct I {
    int32_t lane[16];
  };
  struct B {
    uint8_t lane[64];
  };

  template <class Op>
  [[gnu::noinline]] static F map(Op op) {
    F r;
    for (int i = 0; i < 16; ++i) r.lane[i] = op(i);
    return r;
  }

  static F set1(float v) {
    return map([&](int) { return v; });
  }
  static F load(const float* p) {
    F r;
    std::memcpy(r.lane, p, sizeof r.lane);
    return r;
  }
  static void store(float* p, F v) { std::memcpy(p, v.lane, sizeof v.lane); }
  static F add(F a, F b) {
    return map([&](int i) { return a.lane[i] + b.lane[i]; });
  }
  static F sub(F a, F b) {
    return map([&](int i) { return a.lane[i] - b.lane[i]; });
  }
  static F mul(F a, F b) {
    return map([&](int i) { return a.lane[i] * b.lane[i]; });
  }
  static F div(F a, F b) {
    return map([&](int i) { return a.lane[i] / b.lane[i]; });
  }
  static F sqrt(F a) {
    return map([&](int i) { return std::sqrt(a.lane[i]); });
  }
  static F fma(F a, F b, F c) {
    return map([&](int i) { return std::fma(a.lane[i], b.lane[i], c.lane[i]); });
  }
  // As the x86 instructions: the second operand where either is a NaN.
  static F max(F a, F b) {
    return map([&](int i) { return a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i]; });
  }
  static F min(F a, F b) {
    return map([&](int i) { return a.lane[i] < b.lane[i] ? a.lane[i] : b.lane[i]; });
  }
  static F abs(F a) {
    return map([&](int i) { return std::fabs(a.lane[i]); });
  }
  // All lanes combined by halves, the same tree everywhere.
  template <class Op>
  [[gnu::noinline]] static float fold(F v, Op op) {
    for (int width = 8; width > 0; width /= 2)
      for (int i = 0; i < width; ++i) v.lane[i] = op(v.lane[i], v.lane[i + width]);
    return v.lane[0];
  }
  static float sum_lanes(F v) {
    return fold(v, [](float a, float b) { return a + b; });
  }
  static float max_lanes(F v) {
    return fold(v, [](float a, float b) { return a > b ? a : b; });
  }
  // a where it is at least b, otherwise 0.
  static F keep_at_least(F a, F b) {
    return map([&](int i) { return a.lane[i] >= b.lane[i] ? a.lane[i] : 0.0f; });
  }
  // Bit i: a[i] >= b[i].
  [[gnu::noinline]] static uint32_t at_least(F a, F b) {
    uint32_t bits = 0;
    for (int i = 0; i < 16; ++i) bits |= static_cast<uint32_t>(a.lane[i] >= b.lane[i]) << i;
    return bits;
  }

  static I set1(int32_t v) {
    I r;
    for (int32_t& lane : r.lane) lane = v;
    return r;
  }
  template <class Op>
  [[gnu::noinline]] static I map_integers(Op op) {
    I r;
    for (int i = 0; i < 16; ++i) r.lane[i] = static_cast<int32_t>(op(i));
    return r;
  }
  // Modulo 2^32.
  static I add(I a, I b) {
    return map_integers(
        [&](int i) { return static_cast<uint32_t>(a.lane[i]) + static_cast<uint32_t>(b.lane[i]); });
  }
  template <int N>
  static I shift_left(I v) {
    return map_integers([&](int i) { return static_cast<uint32_t>(v.lane[i]) << N; });
  }
  static F bits_to_float(I v) {
    F r;
    std::memcpy(r.lane, v.lane, sizeof r.lane);
    return r;
  }
  static F to_float(I v) {
    return map([&](int i) { return static_cast<float>(v.lane[i]); });
  }
  // Nearest, ties to even; anything out of range (NaN too) gives INT32_MIN.
  [[gnu::noinline]] static I round(F v) {
    I r;
    for (int i = 0; i < 16; ++i) {
      const float x = v.lane[i];
      const bool fits = x >= -2147483648.0f && x < 2147483648.0f;
      r.lane[i] = fits ? static_cast<int32_t>(std::nearbyint(x)) : INT32_MIN;
    }
    return r;
  }
  // The largest magnitude in both; a NaN is larger than anything.
  [[gnu::noinline]] static float largest_magnitude(F a, F b) {
    uint32_t most = 0;
    for (int i = 0; i < 32; ++i) {
      const uint32_t bits = lepton::float_to_bits(i < 16 ? a.lane[i] : b.lane[i - 16]);
      if ((bits & 0x7fffffffu) > most) most = bits & 0x7fffffffu;
    }
    return lepton::bits_to_float(most);
  }
  // v * 2^n for n in [-126, 127].
  static F scale_by_power(F v, I n) {
    return map([&](int i) {
      const uint32_t bits = static_cast<uint32_t>(n.lane[i] + 127) << 23;
      float power;
      std::memcpy(&power, &bits, sizeof power);
      return v.lane[i] * power;
    });
  }
  [[gnu::noinline]] static int32_t sum(I v) {
    uint32_t total = 0;
    for (int32_t lane : v.lane) total += static_cast<uint32_t>(lane);
    return static_cast<int32_t>(total);
  }
  // Saturates to int8.
  [[gnu::noinline]] static void store_int8(int8_t* p, I v) {
    for (int i = 0; i < 16; ++i) {
      const int32_t x = v.lane[i];
      p[i] = static_cast<int8_t>(x < -128 ? -128 : x > 127 ? 127 : x);
    }
  }
  // Saturates to int16.
  [[gnu::noinline]] static void store_int16(int16_t* p, I v) {
    for (int i = 0; i < 16; ++i) {
      const int32_t x = v.lane[i];
      p[i] = static_cast<int16_t>(x < -32768 ? -32768 : x > 32767 ? 32767 : x);
    }
  }

  static F load_f16(const uint16_t* p) {
    return map([&](int i) { return lepton::half_to_float(p[i]); });
  }
  static F load_u8(const uint8_t* p) {
    return map([&](int i) { return static_cast<float>(p[i]); });
  }
  static F load_s8(const uint8_t* p) {
    return map([&](int i) { return static_cast<float>(static_cast<int8_t>(p[i])); });
  }
  // Sixteen pairs of bf16: the first of each pair in `even`, the second in `odd`.
  [[gnu::noinline]] static void load_bf16_pairs(const uint16_t* p, F& even, F& odd) {
    for (int i = 0; i < 16; ++i) {
      const uint32_t e = static_cast<uint32_t>(p[2 * i]) << 16;
      const uint32_t o = static_cast<uint32_t>(p[2 * i + 1]) << 16;
      std::memcpy(&even.lane[i], &e, sizeof e);
      std::memcpy(&odd.lane[i], &o, sizeof o);
    }
  }

  // To the nearest bf16, ties to even, as a float.
  static F round_to_bf16(F v) {
    return map(
        [&](int i) { return lepton::bfloat16_to_float(lepton::float_to_bfloat16(v.lane[i])); });
  }

  static B load_bytes(const uint8_t* p) {
    B r;
    std::memcpy(r.lane, p, sizeof r.lane);
    return r;
  }
  template <class Op>
  [[gnu::noinline]] static B map_bytes(Op op) {
    B r;
    for (int i = 0; i < 64; ++i) r.lane[i] = static_cast<uint8_t>(op(i));
    return r;
  }
  static B bit_and(B a, int mask) {
    return map_bytes([&](int i) { return a.lane[i] & mask; });
  }
  static B bit_or(B a, B b) {
    return map_bytes([&](int i) { return a.lane[i] | b.lane[i]; });
  }
  static B bit_xor(B a, int mask) {
    return map_bytes([&](int i) { return a.lane[i] ^ mask; });
  }
  // Shifts by a constant (negative: right). Bits crossing byte borders are the caller's to mask
  // off.
  template <int N>
  static B shift(B a) {
    if constexpr (N >= 0)
      return map_bytes([&](int i) { return a.lane[i] << N; });
    else
      return map_bytes([&](int i) { return a.lane[i] >> -N; });
  }
  static B lookup(const int8_t table[16], B index) {
    return map_bytes([&](int i) { return table[index.lane[i] & 15]; });
  }

  // sum[c] += w[4c] a[0] + … + w[4c + 3] a[3]: weights unsigned up to 63, four signed activations.
  [[gnu::noinline]] static I dot(I sum, B w, const int8_t* a) {
    for (int c = 0; c < 16; ++c)
      for (int j = 0; j < 4; ++j) sum.lane[c] += w.lane[4 * c + j] * a[j];
    return sum;
  }
  // What dot_s8 takes for signed weights.
  static B signed_operand(B w) { return w; }
  // The same for signed weights.
  [[gnu::noinline]] static I dot_s8(I sum, B w, const int8_t* a) {
    for (int c = 0; c < 16; ++c)
      for (int j = 0; j < 4; ++j) sum.lane[c] += static_cast<int8_t>(w.lane[4 * c + j]) * a[j];
    return sum;
  }
  // sum[c] += w[2c] a[0] + w[2c + 1] a[1]: weights and activations of 16 bits, whose products may
  // wrap around where a row holds a NaN.
  [[gnu::noinline]] static I dot_words(I sum, B w, const int16_t* a) {
    int16_t words[32];
    std::memcpy(words, w.lane, sizeof words);
    return map_integers([&](int c) {
      const auto product = [&](int j) { return static_cast<uint32_t>(words[2 * c + j] * a[j]); };
      return static_cast<uint32_t>(sum.lane[c]) + product(0) + product(1);
    });
  }
};

}  // namespace
