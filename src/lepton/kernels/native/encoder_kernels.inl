// Kernels for encoders, written once over `Simd`. Included by one translation unit per instruction
// set; see kernels.inl for its rules.

#include "encoder_kernels.h"

namespace {

using lepton::Activation;
using lepton::DenseProduct;
using lepton::DenseType;
using lepton::EncoderAttention;
using lepton::QuantizedRow;

using F = Simd::F;
using I = Simd::I;
using B = Simd::B;

constexpr size_t kLanes = 16;
constexpr size_t kStepBytes = 64;

#ifdef LEPTON_UNSIGNED_STATES
constexpr bool kUnsignedStates = true;
#else
constexpr bool kUnsignedStates = false;
#endif

#include "elementary.inl"

#include "encoder_rows.inl"

#include "encoder_products.inl"

#include "encoder_attention.inl"

constexpr lepton::EncoderKernels kEncoderTable = {
    kHalfProducts ? "avx512bf16" : Simd::kName,
    kUnsignedStates,
    {multiply<FloatStep>, half_product(), multiply<ByteStep>, multiply<WordStep>},
    attend<FloatStep>,
    half_attention(),
    layer_norm,
    rms_norm,
    add_rows,
    to_half,
    from_half,
    quantize,
    quantize_words,
    gate,
};

}  // namespace
