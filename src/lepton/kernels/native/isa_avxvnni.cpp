#define LEPTON_AVXVNNI
#include "simd_avx2.h"

#include "kernels.inl"

namespace lepton {

extern const KernelTable kernels_avxvnni;
const KernelTable kernels_avxvnni = kTable;

}  // namespace lepton
