// The table of kernels every instruction set provides.
#pragma once

#include <cstddef>
#include <cstdint>

#include "panel.h"

namespace lepton {

// Activations of several rows as int8 in groups of 32 inputs, one or two planes:
// x ≈ scale · (first + second / 254). Inputs are padded with zeros to a multiple of 32.
struct QuantizedRows {
  int planes;
  size_t columns;            // padded
  int8_t* values[2];         // per plane [rows, columns]
  float* scales;             // [rows, columns / 32]
  int32_t* integer_sums[2];  // per plane [rows, columns / 16]
  float* sums;               // [rows, columns / 16], of the represented values
};

// One matrix product: output[r, o] (+)= bias[o] + Σ weights[o, i] · input[r, i] for rows
// [row_begin, row_end) and the outputs of `panels` panels. A row's result does not depend on how
// many rows go together.
struct Product {
  const uint8_t* panels;  // the first panel
  size_t num_panels;
  size_t panel_bytes;
  size_t columns;
  const QuantizedRows* quantized;  // for quantized weights
  const float* input;              // for float weights: [rows, input_stride], zero-padded to even
  size_t input_stride;
  const float* bias;  // [num_panels * 16] or null
  float* output;      // [rows, output_stride], written 16 at a time
  size_t output_stride;
  size_t row_begin, row_end;
  bool accumulate;  // add to what the output holds
};

// The KV cache of one layer: blocks of 16 tokens in bf16, per KV head.
// Keys [blocks, heads, head_dim / 2, 16 tokens, 2]; values [blocks, heads, 8, padded_dim, 2
// tokens].
struct CacheView {
  uint16_t* keys;
  uint16_t* values;
  size_t num_kv_heads;
  size_t head_dim;
  size_t padded_dim;  // head_dim rounded up to 16

  [[gnu::always_inline]] size_t key_offset(size_t block, size_t head) const {
    return (block * num_kv_heads + head) * 16 * head_dim;
  }
  [[gnu::always_inline]] size_t value_offset(size_t block, size_t head) const {
    return (block * num_kv_heads + head) * 16 * padded_dim;
  }
};

// Attention of one token's query heads that share one KV head.
struct AttendItem {
  const CacheView* cache;
  const int32_t* block_table;
  size_t kv_head;
  size_t group;          // query heads
  const float* queries;  // [group, head_dim], rotated
  float* output;         // [group, head_dim]
  float scale;
  size_t first, last;  // positions attended to, both included
  float* scratch;      // [group * (blocks touched) * 16 + padded_dim]
};

using ProductKernel = void (*)(const Product&);

struct KernelTable {
  const char* name;
  // y = x / sqrt(mean(x²) + epsilon) · weight; y is zero-filled up to `stride`. x and y may be one.
  void (*rms_norm)(const float* x, const float* weight, float epsilon, size_t columns,
                   size_t stride, float* y);
  // Fills row `row` of `target` from x [target.columns].
  void (*quantize_row)(const float* x, size_t row, const QuantizedRows& target);
  // y = activation(gate) · up, for a multiple of 16 values.
  void (*silu_gate)(const float* gate, const float* up, size_t count, float* y);
  void (*gelu_tanh_gate)(const float* gate, const float* up, size_t count, float* y);
  void (*attend)(const AttendItem& item);
  // The kernel for a weight type and number of activation planes.
  ProductKernel (*product)(TensorType type, int planes);
};

}  // namespace lepton
