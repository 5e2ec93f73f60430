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

using lepton::Codes;
using lepton::kBlockColumns;
using lepton::kPanelRows;
using lepton::LayoutOf;
using lepton::Planes;
using lepton::Product;
using lepton::ProductKernel;
using lepton::QuantizedRows;
using lepton::Scales;
using lepton::TensorType;

using F = Simd::F;
using I = Simd::I;
using B = Simd::B;

#include "elementary.inl"

#include "attention.inl"
#include "dots.inl"
#include "products.inl"
#include "quantize.inl"
#include "rows.inl"
#include "sampling.inl"
#include "scan.inl"

constexpr lepton::KernelTable kTable = {
    Simd::kName,
    rms_norm,
    quantize_row,
    choose_refined,
    silu_gate,
    gelu_tanh_gate,
    attend,
    merge_attention,
    Simd::kQueryTile,
    product,
    split_product,
    scan_high,
    {scan_logits, weigh, sum_at_least, collect},
    {fit, encode},
};

}  // namespace
