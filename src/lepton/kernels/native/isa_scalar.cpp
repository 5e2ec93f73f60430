#include "kernels.inl"
#include "simd_scalar.h"

namespace lepton {

extern const KernelTable kernels_scalar;
const KernelTable kernels_scalar = kTable;

}  // namespace lepton
