#include "simd_avx512.h"

#include "kernels.inl"

namespace lepton {

extern const KernelTable kernels_avx512;
const KernelTable kernels_avx512 = kTable;

}  // namespace lepton
