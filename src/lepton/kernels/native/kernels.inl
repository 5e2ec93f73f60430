// Every kernel, written once over `Simd`. Included by one translation unit per instruction set,
// which is compiled with that set's flags: everything here has internal linkage and calls no
// template of the standard library, so that no wide instruction leaks into code that other units
// share.
//
// Each kernel performs the same operations in the same order on every instruction set (products are
// fused explicitly, never by the compiler), so all of them give the same bits.

#include "kernels.h"
#include "split.h"

namespace {

using lepton::AttendItem;
using lepton::AttendState;
using lepton::CacheType;
using lepton::Codes;
using lepton::kBlockColumns;
using lepton::kPanelRows;
using lepton::kSegmentTokens;
using lepton::LayoutOf;
using lepton::Product;
using lepton::ProductKernel;
using lepton::QuantizedRows;
using lepton::Scales;
using lepton::TensorType;

using F = Simd::F;
using I = Simd::I;
using B = Simd::B;

#define LEPTON_INLINE inline __attribute__((always_inline))

LEPTON_INLINE F zero() { return Simd::set1(0.0f); }

// e^x to within two units in the last place, for x clamped to [-87, 88]; a NaN stays one.
LEPTON_INLINE F exponential(F x) {
  const F clamped = Simd::min(Simd::set1(88.0f), Simd::max(Simd::set1(-87.0f), x));
  const I n = Simd::round(Simd::mul(clamped, Simd::set1(1.44269504f)));
  const F nf = Simd::to_float(n);
  // ln 2 in two parts keeps the remainder exact.
  F r = Simd::fma(nf, Simd::set1(-0.693359375f), clamped);
  r = Simd::fma(nf, Simd::set1(2.12194440e-4f), r);
  F p = Simd::set1(1.0f / 5040.0f);
  p = Simd::fma(p, r, Simd::set1(1.0f / 720.0f));
  p = Simd::fma(p, r, Simd::set1(1.0f / 120.0f));
  p = Simd::fma(p, r, Simd::set1(1.0f / 24.0f));
  p = Simd::fma(p, r, Simd::set1(1.0f / 6.0f));
  p = Simd::fma(p, r, Simd::set1(0.5f));
  p = Simd::fma(p, r, Simd::set1(1.0f));
  p = Simd::fma(p, r, Simd::set1(1.0f));
  return Simd::scale_by_power(p, n);
}

#include "attention.inl"
#include "products.inl"
#include "quantize.inl"
#include "rows.inl"
#include "sampling.inl"
#include "scan.inl"

constexpr lepton::KernelTable kTable = {
    Simd::kName,    rms_norm,      quantize_row,    silu_gate,
    gelu_tanh_gate, attend,        merge_attention, Simd::kQueryTile,
    product,        split_product, scan_high,       {scan_logits, weigh, sum_at_least, collect},
    {fit, encode},
};

}  // namespace
