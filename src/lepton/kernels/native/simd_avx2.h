// AVX2 + FMA + F16C, with AVX-VNNI where LEPTON_AVXVNNI is defined: sixteen lanes in two
// registers.
#pragma once

#if defined(LEPTON_EMULATE_ISAS) && defined(LEPTON_AVXVNNI)
#include "simd_emulation.h"
#else
#include <immintrin.h>
#endif

#include <cstdint>
#include <cstring>

namespace {

struct Simd {
#ifdef LEPTON_AVXVNNI
  static constexpr const char* kName = "avxvnni";
  static constexpr int kSignedBias = 128;
  static constexpr bool kWords = false;
#else
  static constexpr const char* kName = "avx2";
  static constexpr bool kWords = true;
#endif
  static constexpr bool kPairProducts = false;
  static constexpr size_t kPanelTile = 1;
  static constexpr int kFewRows = 6;
  static constexpr int kFewWideRows = 4;
  static constexpr size_t kRowTile = 4;
  static constexpr size_t kFloatRows = 6;
  static constexpr size_t kQueryTile = 5;
  static constexpr int kAttendSums = 6;

  struct F {
    __m256 lo, hi;
  };
  struct I {
    __m256i lo, hi;
  };
  struct B {
    __m256i lo, hi;
  };

  // Keeps a value in registers.
  static void hold(F& v) { asm("" : "+x"(v.lo), "+x"(v.hi)); }

  static F set1(float v) { return {_mm256_set1_ps(v), _mm256_set1_ps(v)}; }
  static F load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
  static void store(float* p, F v) {
    _mm256_storeu_ps(p, v.lo);
    _mm256_storeu_ps(p + 8, v.hi);
  }
  static F add(F a, F b) { return {_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)}; }
  static F sub(F a, F b) { return {_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi)}; }
  static F mul(F a, F b) { return {_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)}; }
  static F div(F a, F b) { return {_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi)}; }
  static F sqrt(F a) { return {_mm256_sqrt_ps(a.lo), _mm256_sqrt_ps(a.hi)}; }
  static F fma(F a, F b, F c) {
    return {_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)};
  }
  static F max(F a, F b) { return {_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi)}; }
  static F min(F a, F b) { return {_mm256_min_ps(a.lo, b.lo), _mm256_min_ps(a.hi, b.hi)}; }
  static F abs(F a) {
    const __m256 sign = _mm256_set1_ps(-0.0f);
    return {_mm256_andnot_ps(sign, a.lo), _mm256_andnot_ps(sign, a.hi)};
  }
  static float sum_lanes(F v) {
    const __m256 eight = _mm256_add_ps(v.lo, v.hi);
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
  }
  static float max_lanes(F v) {
    const __m256 eight = _mm256_max_ps(v.lo, v.hi);
    const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
  }
  static F keep_at_least(F a, F b) {
    return {_mm256_and_ps(a.lo, _mm256_cmp_ps(a.lo, b.lo, _CMP_GE_OQ)),
            _mm256_and_ps(a.hi, _mm256_cmp_ps(a.hi, b.hi, _CMP_GE_OQ))};
  }
  static uint32_t at_least(F a, F b) {
    const int lo = _mm256_movemask_ps(_mm256_cmp_ps(a.lo, b.lo, _CMP_GE_OQ));
    const int hi = _mm256_movemask_ps(_mm256_cmp_ps(a.hi, b.hi, _CMP_GE_OQ));
    return static_cast<uint32_t>(lo | hi << 8);
  }

  static I set1(int32_t v) { return {_mm256_set1_epi32(v), _mm256_set1_epi32(v)}; }
  static I add(I a, I b) { return {_mm256_add_epi32(a.lo, b.lo), _mm256_add_epi32(a.hi, b.hi)}; }
  template <int N>
  static I shift_left(I v) {
    return {_mm256_slli_epi32(v.lo, N), _mm256_slli_epi32(v.hi, N)};
  }
  static F bits_to_float(I v) { return {_mm256_castsi256_ps(v.lo), _mm256_castsi256_ps(v.hi)}; }
  static F to_float(I v) { return {_mm256_cvtepi32_ps(v.lo), _mm256_cvtepi32_ps(v.hi)}; }
  static I round(F v) { return {_mm256_cvtps_epi32(v.lo), _mm256_cvtps_epi32(v.hi)}; }
  static float largest_magnitude(F a, F b) {
    const F x = abs(a), y = abs(b);
    const __m256i eight =
        _mm256_max_epi32(_mm256_max_epi32(_mm256_castps_si256(x.lo), _mm256_castps_si256(x.hi)),
                         _mm256_max_epi32(_mm256_castps_si256(y.lo), _mm256_castps_si256(y.hi)));
    __m128i four = _mm_max_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
    four = _mm_max_epi32(four, _mm_shuffle_epi32(four, 0x4e));
    four = _mm_max_epi32(four, _mm_shuffle_epi32(four, 0xb1));
    return _mm_cvtss_f32(_mm_castsi128_ps(four));
  }
  static F scale_by_power(F v, I n) {
    const __m256i bias = _mm256_set1_epi32(127);
    const __m256i lo = _mm256_slli_epi32(_mm256_add_epi32(n.lo, bias), 23);
    const __m256i hi = _mm256_slli_epi32(_mm256_add_epi32(n.hi, bias), 23);
    return {_mm256_mul_ps(v.lo, _mm256_castsi256_ps(lo)),
            _mm256_mul_ps(v.hi, _mm256_castsi256_ps(hi))};
  }
  static int32_t sum(I v) {
    const __m256i eight = _mm256_add_epi32(v.lo, v.hi);
    __m128i four = _mm_add_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
    four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4e));
    four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0xb1));
    return _mm_cvtsi128_si32(four);
  }
  // Sixteen words, saturated.
  static __m256i to_int16(I v) {
    // packs works within 128-bit halves; the permutation restores the order.
    return _mm256_permute4x64_epi64(_mm256_packs_epi32(v.lo, v.hi), 0xd8);
  }
  static void store_int8(int8_t* p, I v) {
    const __m256i words = to_int16(v);
    const __m128i bytes =
        _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), bytes);
  }
  // Stores 32 codes and sums them by halves.
  static void store_and_sum(int8_t* p, I a, I b, int32_t (&sums)[2]) {
    const __m256i x = to_int16(a), y = to_int16(b), ones = _mm256_set1_epi16(1);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                        _mm256_permute4x64_epi64(_mm256_packs_epi16(x, y), 0xd8));
    const __m256i four = _mm256_hadd_epi32(_mm256_madd_epi16(x, ones), _mm256_madd_epi16(y, ones));
    __m128i two = _mm_add_epi32(_mm256_castsi256_si128(four), _mm256_extracti128_si256(four, 1));
    two = _mm_add_epi32(two, _mm_shuffle_epi32(two, 0xb1));
    sums[0] = _mm_cvtsi128_si32(two);
    sums[1] = _mm_extract_epi32(two, 2);
  }

  static void store_int16(int16_t* p, I v) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), to_int16(v));
  }
  static F load_f16(const uint16_t* p) {
    const __m256i v = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    return {_mm256_cvtph_ps(_mm256_castsi256_si128(v)),
            _mm256_cvtph_ps(_mm256_extracti128_si256(v, 1))};
  }
  static F load_u8(const uint8_t* p) {
    const __m128i v = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return {_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(v)),
            _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_srli_si128(v, 8)))};
  }
  static F load_s8(const uint8_t* p) {
    const __m128i v = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return {_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(v)),
            _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(v, 8)))};
  }
  static void load_bf16_pairs(const uint16_t* p, F& even, F& odd) {
    const B v = load_bytes(reinterpret_cast<const uint8_t*>(p));
    const __m256i high = _mm256_set1_epi32(static_cast<int>(0xffff0000u));
    even = {_mm256_castsi256_ps(_mm256_slli_epi32(v.lo, 16)),
            _mm256_castsi256_ps(_mm256_slli_epi32(v.hi, 16))};
    odd = {_mm256_castsi256_ps(_mm256_and_si256(v.lo, high)),
           _mm256_castsi256_ps(_mm256_and_si256(v.hi, high))};
  }

  static F round_to_bf16(F v) {
    const auto round = [](__m256 half) {
      const __m256i bits = _mm256_castps_si256(half);
      const __m256i even = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
      const __m256i up = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), even);
      const __m256 quiet = _mm256_or_ps(half, _mm256_castsi256_ps(_mm256_set1_epi32(0x400000)));
      const __m256 rounded =
          _mm256_blendv_ps(_mm256_castsi256_ps(up), quiet, _mm256_cmp_ps(half, half, _CMP_UNORD_Q));
      return _mm256_and_ps(rounded,
                           _mm256_castsi256_ps(_mm256_set1_epi32(static_cast<int>(0xffff0000u))));
    };
    return {round(v.lo), round(v.hi)};
  }

  static B load_bytes(const uint8_t* p) {
    return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)),
            _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + 32))};
  }
  static B bit_and(B a, int mask) {
    const __m256i m = _mm256_set1_epi8(static_cast<char>(mask));
    return {_mm256_and_si256(a.lo, m), _mm256_and_si256(a.hi, m)};
  }
  static B bit_or(B a, B b) { return {_mm256_or_si256(a.lo, b.lo), _mm256_or_si256(a.hi, b.hi)}; }
  static B bit_xor(B a, int mask) {
    const __m256i m = _mm256_set1_epi8(static_cast<char>(mask));
    return {_mm256_xor_si256(a.lo, m), _mm256_xor_si256(a.hi, m)};
  }
  template <int N>
  static B shift(B a) {
    if constexpr (N >= 0)
      return {_mm256_slli_epi16(a.lo, N), _mm256_slli_epi16(a.hi, N)};
    else
      return {_mm256_srli_epi16(a.lo, -N), _mm256_srli_epi16(a.hi, -N)};
  }
  static B lookup(const int8_t table[16], B index) {
    const __m256i t =
        _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table)));
    return {_mm256_shuffle_epi8(t, index.lo), _mm256_shuffle_epi8(t, index.hi)};
  }

  static __m256i broadcast4(const void* a) {
    int32_t four;
    std::memcpy(&four, a, sizeof four);
    return _mm256_set1_epi32(four);
  }
#ifdef LEPTON_AVXVNNI
  static I dot(I sum, B w, const int8_t* a) {
    const __m256i b = broadcast4(a);
    return {_mm256_dpbusd_avx_epi32(sum.lo, w.lo, b), _mm256_dpbusd_avx_epi32(sum.hi, w.hi, b)};
  }
  static B signed_operand(B w) { return bit_xor(w, 0x80); }
  static I dot_s8(I sum, B w, const int8_t* a) { return dot(sum, w, a); }
  static I dot_words(I sum, B w, const int16_t* a) {
    const __m256i two = broadcast4(a);
    return {_mm256_dpwssd_avx_epi32(sum.lo, w.lo, two), _mm256_dpwssd_avx_epi32(sum.hi, w.hi, two)};
  }
#else
  // Sixteen-bit lanes. Words of a quad lie as inputs 0, 2, 1, 3: the even bytes of every output,
  // then the odd ones.
  struct W {
    __m256i lo, hi;
  };
  static void store_words(int16_t* p, I v) {
    const __m256i words = to_int16(v);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                        _mm256_shufflehi_epi16(_mm256_shufflelo_epi16(words, 0xd8), 0xd8));
  }
  static W even_unsigned(B v) {
    const __m256i mask = _mm256_set1_epi16(0xff);
    return {_mm256_and_si256(v.lo, mask), _mm256_and_si256(v.hi, mask)};
  }
  static W odd_unsigned(B v) { return {_mm256_srli_epi16(v.lo, 8), _mm256_srli_epi16(v.hi, 8)}; }
  static W even_signed(B v) {
    return {_mm256_srai_epi16(_mm256_slli_epi16(v.lo, 8), 8),
            _mm256_srai_epi16(_mm256_slli_epi16(v.hi, 8), 8)};
  }
  static W odd_signed(B v) { return {_mm256_srai_epi16(v.lo, 8), _mm256_srai_epi16(v.hi, 8)}; }
  // w[2c] a[0] + w[2c + 1] a[1] in lane c.
  static I multiply_words(W w, const int16_t* a) {
    const __m256i two = broadcast4(a);
    return {_mm256_madd_epi16(w.lo, two), _mm256_madd_epi16(w.hi, two)};
  }
  static I dot_words(I sum, B w, const int16_t* a) {
    return add(sum, multiply_words({w.lo, w.hi}, a));
  }
  // Word 2c of `sum` becomes w[4c] a[0] + w[4c + 1] a[1] and word 2c + 1 w[4c + 2] a[2] +
  // w[4c + 3] a[3], or both grow by it. Member by member: GCC 12 assigns a whole W through memory,
  // eight bytes at a time, and the loads wait for the stores.
  template <bool Add>
  static void multiply_bytes(W& sum, B w, const int8_t* a) {
    const __m256i four = broadcast4(a);
    const __m256i lo = _mm256_maddubs_epi16(w.lo, four), hi = _mm256_maddubs_epi16(w.hi, four);
    sum.lo = Add ? _mm256_add_epi16(sum.lo, lo) : lo;
    sum.hi = Add ? _mm256_add_epi16(sum.hi, hi) : hi;
  }
  static I add_pairs(W v) {
    const __m256i ones = _mm256_set1_epi16(1);
    return {_mm256_madd_epi16(v.lo, ones), _mm256_madd_epi16(v.hi, ones)};
  }
  // sum[c] += w[4c] a[0] + … + w[4c + 3] a[3], w signed: pairs of products must fit in 16 bits.
  static I dot_unsigned(I sum, B w, const uint8_t* a) {
    const __m256i four = broadcast4(a);
    return add(sum,
               add_pairs({_mm256_maddubs_epi16(four, w.lo), _mm256_maddubs_epi16(four, w.hi)}));
  }
  static I load_int32(const int32_t* p) {
    return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)),
            _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + 8))};
  }
  // For numbers from 0 to 255.
  static void store_uint8(uint8_t* p, I v) {
    const __m256i words = to_int16(v);
    _mm_storeu_si128(
        reinterpret_cast<__m128i*>(p),
        _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1)));
  }
#endif
};

}  // namespace
