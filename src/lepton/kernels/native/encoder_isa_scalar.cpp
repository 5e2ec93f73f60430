#include "half.h"
#include "simd_scalar.h"

#include "encoder_kernels.inl"

namespace lepton {

extern const EncoderKernels encoder_scalar;
const EncoderKernels encoder_scalar = kEncoderTable;

}  // namespace lepton
