// Weights on their way from the rows of a file into panels, and back.
#pragma once

#include <cstddef>
#include <cstdint>

#include "panel.h"

namespace lepton {

struct QuantizeKernels;

constexpr bool is_quantized(TensorType type) {
  return type != TensorType::kF32 && type != TensorType::kF16 && type != TensorType::kBF16;
}

// Whether float weights can be quantized to `type` while they are packed.
constexpr bool is_quantizer_target(TensorType type) {
  return type == TensorType::kQ8_0 || type == TensorType::kQ5_1 || type == TensorType::kQ4_1;
}

// Bytes of one row of `columns` weights in a file, and of one panel of sixteen such rows. Both
// throw std::invalid_argument when the type is unknown or `columns` does not fill whole blocks.
size_t row_bytes(TensorType type, size_t columns);
size_t panel_bytes(TensorType type, size_t columns);

// Packs `count` rows (1 … 16), `stride` bytes apart, into a panel of zeros; further rows stay zero.
void pack_panel(TensorType type, const uint8_t* rows, size_t stride, int count, size_t columns,
                uint8_t* panel);

// The same for rows of a float type that are quantized to `type`, a quantizer target.
void quantize_panel(TensorType type, TensorType source, const QuantizeKernels& kernels,
                    const uint8_t* rows, size_t stride, int count, size_t columns, uint8_t* panel);

// Writes the `columns` weights of one output as float32, exactly as the format defines them.
void unpack_row(TensorType type, const uint8_t* panel, int output, size_t columns, float* out);

}  // namespace lepton
