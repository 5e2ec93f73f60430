#include "simd_neon.h"

#include "kernels.inl"

namespace lepton {

extern const KernelTable kernels_neon;
const KernelTable kernels_neon = kTable;

}  // namespace lepton
