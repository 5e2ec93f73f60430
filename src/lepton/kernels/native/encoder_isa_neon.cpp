#include "half.h"
#include "simd_neon.h"

#include "encoder_kernels.inl"

namespace lepton {

extern const EncoderKernels encoder_neon;
const EncoderKernels encoder_neon = kEncoderTable;

}  // namespace lepton
