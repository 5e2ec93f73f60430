#include "half.h"
#include "simd_avx512.h"

#include "encoder_kernels.inl"

namespace lepton {

extern const EncoderKernels encoder_avx512;
const EncoderKernels encoder_avx512 = kEncoderTable;

}  // namespace lepton
