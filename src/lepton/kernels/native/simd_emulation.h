// For tests on machines without the wide instruction sets: the same intrinsics from SIMDe, and in
// plain halves those that SIMDe has not got. Never part of a release build.
#pragma once

#define SIMDE_ENABLE_NATIVE_ALIASES
#include <immintrin.h>
#include <simde/x86/avx512.h>
#include <simde/x86/f16c.h>
#include <simde/x86/fma.h>

#define _mm256_dpbusd_avx_epi32 simde_mm256_dpbusd_epi32
#define _mm256_dpwssd_avx_epi32 simde_mm256_dpwssd_epi32
#define _mm512_cvtepi32_ps emulated_cvtepi32_ps
#define _mm512_cvtepi8_epi32 emulated_cvtepi8_epi32
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

inline int32_t emulated_reduce_max_epi32(simde__m512i v) {
  Wide in;
  in.i = v;
  int32_t most = in.lane[0];
  for (int32_t lane : in.lane) most = lane > most ? lane : most;
  return most;
}

}  // namespace
