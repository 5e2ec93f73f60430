// The part of lepton.kernels._native that samples.
#pragma once

#include <nanobind/nanobind.h>

namespace lepton {

void bind_sampling(nanobind::module_& m);

}  // namespace lepton
