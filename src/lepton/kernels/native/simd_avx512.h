// AVX-512 F, BW, DQ, VL and VNNI: sixteen lanes in one register.
#pragma once

#ifdef LEPTON_EMULATE_ISAS
#include "simd_emulation.h"
#else
#include <immintrin.h>
#endif

#include <cstdint>
#include <cstring>

namespace {

struct Simd {
  static constexpr const char* kName = "avx512";
#ifdef LEPTON_AVX512_BF16
  static constexpr bool kPairProducts = true;
#else
  static constexpr bool kPairProducts = false;
#endif
  static constexpr int kSignedBias = 128;
  static constexpr bool kWords = false;
  static constexpr size_t kPanelTile = 2;
  static constexpr int kFewRows = 6;
  static constexpr int kFewWideRows = 6;
  static constexpr size_t kRowTile = 4;
  static constexpr size_t kFloatRows = 12;
  static constexpr size_t kQueryTile = 12;
  static constexpr int kAttendSums = 12;

  struct F {
    __m512 v;
  };
  struct I {
    __m512i v;
  };
  struct B {
    __m512i v;
  };

  static F set1(float v) { return {_mm512_set1_ps(v)}; }
  static F load(const float* p) { return {_mm512_loadu_ps(p)}; }
  static void store(float* p, F v) { _mm512_storeu_ps(p, v.v); }
  static F add(F a, F b) { return {_mm512_add_ps(a.v, b.v)}; }
  static F sub(F a, F b) { return {_mm512_sub_ps(a.v, b.v)}; }
  static F mul(F a, F b) { return {_mm512_mul_ps(a.v, b.v)}; }
  static F div(F a, F b) { return {_mm512_div_ps(a.v, b.v)}; }
  static F sqrt(F a) { return {_mm512_sqrt_ps(a.v)}; }
  static F fma(F a, F b, F c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
  static F max(F a, F b) { return {_mm512_max_ps(a.v, b.v)}; }
  static F min(F a, F b) { return {_mm512_min_ps(a.v, b.v)}; }
  static F abs(F a) { return {_mm512_abs_ps(a.v)}; }
  static float sum_lanes(F v) {
    const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(v.v), _mm512_extractf32x8_ps(v.v, 1));
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
  }
  static float max_lanes(F v) {
    const __m256 eight = _mm256_max_ps(_mm512_castps512_ps256(v.v), _mm512_extractf32x8_ps(v.v, 1));
    const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
  }
  static F keep_at_least(F a, F b) {
    return {_mm512_maskz_mov_ps(_mm512_cmp_ps_mask(a.v, b.v, _CMP_GE_OQ), a.v)};
  }
  static uint32_t at_least(F a, F b) { return _mm512_cmp_ps_mask(a.v, b.v, _CMP_GE_OQ); }

  static I set1(int32_t v) { return {_mm512_set1_epi32(v)}; }
  static I add(I a, I b) { return {_mm512_add_epi32(a.v, b.v)}; }
  template <int N>
  static I shift_left(I v) {
    return {_mm512_slli_epi32(v.v, N)};
  }
  static F bits_to_float(I v) { return {_mm512_castsi512_ps(v.v)}; }
  static F to_float(I v) { return {_mm512_cvtepi32_ps(v.v)}; }
  static I round(F v) { return {_mm512_cvtps_epi32(v.v)}; }
  static float largest_magnitude(F a, F b) {
    const __m512i most =
        _mm512_max_epi32(_mm512_castps_si512(abs(a).v), _mm512_castps_si512(abs(b).v));
    return _mm_cvtss_f32(_mm_castsi128_ps(_mm_cvtsi32_si128(_mm512_reduce_max_epi32(most))));
  }
  static F scale_by_power(F v, I n) {
    const __m512i bits = _mm512_slli_epi32(_mm512_add_epi32(n.v, _mm512_set1_epi32(127)), 23);
    return {_mm512_mul_ps(v.v, _mm512_castsi512_ps(bits))};
  }
  static int32_t sum(I v) { return _mm512_reduce_add_epi32(v.v); }
  static void store_int8(int8_t* p, I v) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtsepi32_epi8(v.v));
  }
  static void store_int16(int16_t* p, I v) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtsepi32_epi16(v.v));
  }
  // Stores 32 codes and sums them by halves.
  static void store_and_sum(int8_t* p, I a, I b, int32_t (&sums)[2]) {
    const __m256i bytes = _mm256_inserti128_si256(
        _mm256_castsi128_si256(_mm512_cvtsepi32_epi8(a.v)), _mm512_cvtsepi32_epi8(b.v), 1);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), bytes);
    __m256i four = _mm256_dpbusd_epi32(_mm256_setzero_si256(), _mm256_set1_epi8(1), bytes);
    four = _mm256_add_epi32(four, _mm256_shuffle_epi32(four, 0x4e));
    four = _mm256_add_epi32(four, _mm256_shuffle_epi32(four, 0xb1));
    sums[0] = _mm_cvtsi128_si32(_mm256_castsi256_si128(four));
    sums[1] = _mm_cvtsi128_si32(_mm256_extracti128_si256(four, 1));
  }

  static F load_f16(const uint16_t* p) {
    return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
  }
  static F load_u8(const uint8_t* p) {
    const __m128i v = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return {_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(v))};
  }
  static F load_s8(const uint8_t* p) {
    const __m128i v = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return {_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(v))};
  }
  static void load_bf16_pairs(const uint16_t* p, F& even, F& odd) {
    const __m512i v = _mm512_loadu_si512(p);
    even = {_mm512_castsi512_ps(_mm512_slli_epi32(v, 16))};
    odd = {
        _mm512_castsi512_ps(_mm512_and_si512(v, _mm512_set1_epi32(static_cast<int>(0xffff0000u))))};
  }

  static F round_to_bf16(F v) {
    const __m512i bits = _mm512_castps_si512(v.v);
    const __m512i even = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i up = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), even);
    const __m512i rounded = _mm512_mask_or_epi32(up, _mm512_cmp_ps_mask(v.v, v.v, _CMP_UNORD_Q),
                                                 bits, _mm512_set1_epi32(0x400000));
    return {_mm512_castsi512_ps(
        _mm512_and_si512(rounded, _mm512_set1_epi32(static_cast<int>(0xffff0000u))))};
  }
#ifdef LEPTON_AVX512_BF16
  // Sixteen pairs of bf16.
  static I load_pairs(const uint8_t* p) { return {_mm512_loadu_si512(p)}; }
  // sum[c] += a[2c + 1] b[1], then sum[c] += a[2c] b[0], for the pair b at `two`.
  static F dot_pairs(F sum, I a, const float* two) {
    int32_t pair;
    std::memcpy(&pair, two, sizeof pair);
    return {_mm512_dpbf16_ps(sum.v, reinterpret_cast<__m512bh>(a.v),
                             reinterpret_cast<__m512bh>(_mm512_set1_epi32(pair)))};
  }
  // For floats that are bf16: sixteen to bf16, one to all lanes, and two to a pair.
  static void store_bf16(uint16_t* p, F v) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                        _mm512_cvtepi32_epi16(_mm512_srli_epi32(_mm512_castps_si512(v.v), 16)));
  }
  static F set1_bf16(uint16_t v) {
    return {_mm512_castsi512_ps(_mm512_set1_epi32(static_cast<int>(uint32_t{v} << 16)))};
  }
  static void join_bf16(const float* two, float* pair) {
    uint32_t bits[2];
    std::memcpy(bits, two, sizeof bits);
    const uint32_t joined = bits[0] >> 16 | bits[1];
    std::memcpy(pair, &joined, sizeof joined);
  }
#endif

  static B load_bytes(const uint8_t* p) { return {_mm512_loadu_si512(p)}; }
  static B bit_and(B a, int mask) {
    return {_mm512_and_si512(a.v, _mm512_set1_epi8(static_cast<char>(mask)))};
  }
  static B bit_or(B a, B b) { return {_mm512_or_si512(a.v, b.v)}; }
  static B bit_xor(B a, int mask) {
    return {_mm512_xor_si512(a.v, _mm512_set1_epi8(static_cast<char>(mask)))};
  }
  template <int N>
  static B shift(B a) {
    if constexpr (N >= 0)
      return {_mm512_slli_epi16(a.v, N)};
    else
      return {_mm512_srli_epi16(a.v, -N)};
  }
  static B lookup(const int8_t table[16], B index) {
    const __m512i t =
        _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table)));
    return {_mm512_shuffle_epi8(t, index.v)};
  }

  static I dot(I sum, B w, const int8_t* a) {
    int32_t four;
    std::memcpy(&four, a, sizeof four);
    return {_mm512_dpbusd_epi32(sum.v, w.v, _mm512_set1_epi32(four))};
  }
  static B signed_operand(B w) { return bit_xor(w, 0x80); }
  static I dot_s8(I sum, B w, const int8_t* a) { return dot(sum, w, a); }
  static I dot_words(I sum, B w, const int16_t* a) {
    int32_t two;
    std::memcpy(&two, a, sizeof two);
    return {_mm512_dpwssd_epi32(sum.v, w.v, _mm512_set1_epi32(two))};
  }
};

}  // namespace
