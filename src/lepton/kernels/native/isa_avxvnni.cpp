#include "kernels.inl"
#include "simd_avx2.h"

namespace lepton {

extern const KernelTable kernels_avxvnni;
const KernelTable kernels_avxvnni = kTable;

}  // namespace lepton
