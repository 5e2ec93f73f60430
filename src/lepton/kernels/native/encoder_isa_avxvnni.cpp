#define LEPTON_AVXVNNI
#include "half.h"
#include "simd_avx2.h"

#include "encoder_kernels.inl"

namespace lepton {

extern const EncoderKernels encoder_avxvnni;
const EncoderKernels encoder_avxvnni = kEncoderTable;

}  // namespace lepton
