#include "simd_avx2.h"

#include "kernels.inl"

namespace lepton {

extern const KernelTable kernels_avx2;
const KernelTable kernels_avx2 = kTable;

}  // namespace lepton
