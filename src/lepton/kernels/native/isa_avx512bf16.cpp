// What products of pairs of bf16 make faster: attention. All else is AVX-512's.
#define LEPTON_AVX512_BF16
#include "kernels.h"
#include "simd_avx512.h"

namespace {

using F = Simd::F;
using I = Simd::I;

#include "elementary.inl"

#include "attention.inl"

}  // namespace

namespace lepton {

extern const AttendKernel attend_avx512bf16;
const AttendKernel attend_avx512bf16 = attend;

}  // namespace lepton
