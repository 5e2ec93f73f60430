#include "kernels.inl"
#include "simd_avx512.h"

namespace lepton {

extern const KernelTable kernels_avx512;
const KernelTable kernels_avx512 = kTable;

}  // namespace lepton
