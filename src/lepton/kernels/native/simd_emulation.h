// For tests on machines without the wide instruction sets: the same intrinsics from SIMDe, and in
// plain halves those that SIMDe has not got. Never part of a release build.
#pragma once

#define SIMDE_ENABLE_NATIVE_ALIASES
#include <immintrin.h>
#include <simde/x86/avx512.h>
#include <simde/x86/f16c.h>
#include <simde/x86/fma.h>

#include <cstdint>
#include <cstring>

#include "half.h"

#define _mm256_dpbusd_avx_epi32 simde_mm256_dpbusd_epi32
#define _mm256_dpwssd_avx_epi32 simde_mm256_dpwssd_epi32
// SIMDe adds the two products of a pair in another order.
#undef _mm512_dpbf16_ps
#define _mm512_cvtneps_pbh emulated_cvtneps_pbh
#define _mm512_dpbf16_ps emulated_dpbf16_ps
#define _mm512_cvtepi32_epi16 emulated_cvtepi32_epi16
#define _mm512_cvtepi32_ps emulated_cvtepi32_ps
#define _mm512_cvtepi8_epi32 emulated_cvtepi8_epi32
#define _mm512_cvtepu16_epi32 emulated_cvtepu16_epi32
#define _mm512_cvtepu8_epi32 emulated_cvtepu8_epi32
#define _mm512_cvtph_ps emulated_cvtph_ps
#define _mm512_cvtps_epi32 emulated_cvtps_epi32
#define _mm512_extractf32x8_ps emulated_extractf32x8_ps
#define _mm512_reduce_add_epi32 emulated_reduce_add_epi32
#define _mm512_reduce_max_epi32 emulated_reduce_max_epi32

namespace {

union Wide {
  simde__m512 f;
  simde__m512i i;
  __m256 half_f[2];
  __m256i half_i[2];
  int32_t lane[16];
};

inline simde__m512 emulated_cvtepi32_ps(simde__m512i v) {
  Wide in, out;
  in.i = v;
  for (int h = 0; h < 2; ++h) out.half_f[h] = _mm256_cvtepi32_ps(in.half_i[h]);
  return out.f;
}

inline simde__m512i emulated_cvtps_epi32(simde__m512 v) {
  Wide in, out;
  in.f = v;
  for (int h = 0; h < 2; ++h) out.half_i[h] = _mm256_cvtps_epi32(in.half_f[h]);
  return out.i;
}

inline simde__m512i emulated_cvtepi8_epi32(__m128i v) {
  Wide out;
  out.half_i[0] = _mm256_cvtepi8_epi32(v);
  out.half_i[1] = _mm256_cvtepi8_epi32(_mm_srli_si128(v, 8));
  return out.i;
}

inline simde__m512i emulated_cvtepu16_epi32(__m256i v) {
  Wide out;
  out.half_i[0] = _mm256_cvtepu16_epi32(_mm256_castsi256_si128(v));
  out.half_i[1] = _mm256_cvtepu16_epi32(_mm256_extracti128_si256(v, 1));
  return out.i;
}

inline simde__m512i emulated_cvtepu8_epi32(__m128i v) {
  Wide out;
  out.half_i[0] = _mm256_cvtepu8_epi32(v);
  out.half_i[1] = _mm256_cvtepu8_epi32(_mm_srli_si128(v, 8));
  return out.i;
}

inline simde__m512 emulated_cvtph_ps(__m256i v) {
  Wide out;
  out.half_f[0] = _mm256_cvtph_ps(_mm256_castsi256_si128(v));
  out.half_f[1] = _mm256_cvtph_ps(_mm256_extracti128_si256(v, 1));
  return out.f;
}

inline __m256 emulated_extractf32x8_ps(simde__m512 v, int half) {
  Wide in;
  in.f = v;
  return in.half_f[half];
}

inline int32_t emulated_reduce_add_epi32(simde__m512i v) {
  Wide in;
  in.i = v;
  int32_t total = 0;
  for (int32_t lane : in.lane) total += lane;
  return total;
}

// As the instruction does, numbers below 2^-126 are nothing; kernels set that mode anyway.
inline simde__m512 emulated_dpbf16_ps(simde__m512 sum, __m512bh a, __m512bh b) {
  Wide total, left, right;
  total.f = sum;
  std::memcpy(&left, &a, sizeof left);
  std::memcpy(&right, &b, sizeof right);
  const __m256i high = _mm256_set1_epi32(static_cast<int>(0xffff0000u));
  const auto odd = [&](__m256i v) { return _mm256_castsi256_ps(_mm256_and_si256(v, high)); };
  const auto even = [](__m256i v) { return _mm256_castsi256_ps(_mm256_slli_epi32(v, 16)); };
  for (int h = 0; h < 2; ++h) {
    const __m256i x = left.half_i[h], y = right.half_i[h];
    const __m256 first = _mm256_fmadd_ps(odd(x), odd(y), total.half_f[h]);
    total.half_f[h] = _mm256_fmadd_ps(even(x), even(y), first);
  }
  return total.f;
}

// Sixteen bits of each lane, as `half_of` chooses them.
template <class HalfOf>
__m256i emulated_halves(const Wide& in, HalfOf half_of) {
  uint16_t halves[16];
  for (int i = 0; i < 16; ++i) halves[i] = half_of(in.lane[i]);
  __m256i out;
  std::memcpy(&out, halves, sizeof out);
  return out;
}

inline __m256i emulated_cvtepi32_epi16(simde__m512i v) {
  Wide in;
  in.i = v;
  return emulated_halves(in, [](int32_t lane) { return static_cast<uint16_t>(lane); });
}

inline __m256i emulated_cvtneps_pbh(simde__m512 v) {
  Wide in;
  in.f = v;
  return emulated_halves(in, [](int32_t lane) {
    return lepton::float_to_bfloat16(lepton::bits_to_float(static_cast<uint32_t>(lane)));
  });
}

inline int32_t emulated_reduce_max_epi32(simde__m512i v) {
  Wide in;
  in.i = v;
  int32_t most = in.lane[0];
  for (int32_t lane : in.lane) most = lane > most ? lane : most;
  return most;
}

}  // namespace
