#include "simd_scalar.h"

#include "kernels.inl"

namespace lepton {

extern const KernelTable kernels_scalar;
const KernelTable kernels_scalar = kTable;

}  // namespace lepton
