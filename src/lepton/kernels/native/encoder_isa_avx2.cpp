#define LEPTON_UNSIGNED_STATES
#include "half.h"
#include "simd_avx2.h"

#include "encoder_kernels.inl"

namespace lepton {

extern const EncoderKernels encoder_avx2;
const EncoderKernels encoder_avx2 = kEncoderTable;

}  // namespace lepton
