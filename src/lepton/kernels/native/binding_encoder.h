// The part of lepton.kernels._native that runs encoders.
#pragma once

#include <nanobind/nanobind.h>

namespace lepton {

void bind_encoder(nanobind::module_& m);

}  // namespace lepton
