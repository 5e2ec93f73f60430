#define LEPTON_HALF_PRODUCTS
#include "half.h"
#include "simd_avx512.h"

#include "encoder_kernels.inl"

namespace lepton {

extern const EncoderKernels encoder_avx512bf16;
const EncoderKernels encoder_avx512bf16 = kEncoderTable;

}  // namespace lepton
