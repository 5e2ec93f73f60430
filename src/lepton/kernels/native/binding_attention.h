// The part of lepton.kernels._native that shows a KV cache and attention alone.
#pragma once

#include <nanobind/nanobind.h>

#include <string>

#include "kernels.h"

namespace lepton {

// "bfloat16" or "int8"; throws std::invalid_argument for anything else.
CacheType parse_cache_type(const std::string& name);

void bind_attention(nanobind::module_& m);

}  // namespace lepton
