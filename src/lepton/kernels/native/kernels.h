// The table of kernels every instruction set provides.
#pragma once

#include <cstddef>
#include <cstdint>

#include "panel.h"

namespace lepton {

// Rows that go through a panel of weights together.
constexpr size_t kRowBlock = 128;

// How many bytes stand for an activation.
enum class Planes {
  kOne,
  kAdaptive,  // two in the blocks of a row where rounding would weigh most, one in all others
  kTwo
};

// Activations of several rows in groups of 32 inputs: x ≈ scale · n with a whole number n, which is
// one byte (one plane) or 256 · first + second (two planes; in a block that has but one, second
// counts as zero). Block by block: all rows of the first 32 inputs, then all rows of the next.
// Inputs are padded with zeros to a multiple of 32.
struct QuantizedRows {
  Planes planes;
  size_t rows;
  size_t columns;     // padded
  int8_t* values[2];  // per plane [columns / 32, rows, 32]
  uint8_t* refined;   // [columns / 32, rows]: whether a block of adaptive planes has two
  int16_t* words;     // [columns / 32, rows, 32] in the order of WordDot; null where none is used
  float* scales;      // [columns / 32, rows]
  // Sums over the first 16 inputs of a block, the last 16 and all 32.
  int32_t* integer_sums;  // of n: [columns / 32, rows, kSums]
  float* sums;            // of scale · n: [columns / 32, rows, kSums]

  static constexpr size_t kSums = 3;
};

// One matrix product: output[r, o] (+)= bias[o] + Σ weights[o, i] · input[r, i] for rows
// [row_begin, row_end) and the outputs of `panels` panels. A row's result does not depend on how
// many rows go together.
struct Product {
  const uint8_t* panels;  // the first panel
  size_t num_panels;
  size_t panel_bytes;
  const uint8_t* low;  // the low plane's first panel, for split weights
  size_t columns;
  const QuantizedRows* quantized;  // for quantized weights
  const float* input;              // for float weights: [rows, input_stride], zero-padded to even
  size_t input_stride;
  const float* bias;  // [num_panels * 16] or null
  float* output;      // of row_begin: [row_end - row_begin, output_stride], written 16 at a time
  size_t output_stride;
  size_t row_begin, row_end;
  bool accumulate;  // add to what the output holds
};

// How keys and values are stored: rounded to bf16, or as int8 with a scale per token and head.
enum class CacheType { kBFloat16, kInt8 };

// The KV cache of one layer: blocks of 16 tokens, each with one unit per KV head, which holds
//   keys    [head_dim / 2, pair]       a pair: two dimensions of 16 tokens
//   values  [padded_dim / 16, 8, pair] a pair: 16 dimensions of two tokens
//   scales  [2, 16] float32            of each token's key and value; int8 alone
// A pair is [16, 2] in bf16 and [2, 16] in int8.
struct CacheView {
  CacheType type;
  uint8_t* data;
  size_t block_stride;  // bytes from block to block
  size_t num_kv_heads;
  size_t head_dim;
  size_t padded_dim;  // head_dim rounded up to 16
  size_t unit_bytes;

  [[gnu::always_inline]] size_t pair_bytes() const { return type == CacheType::kInt8 ? 32 : 64; }
  [[gnu::always_inline]] size_t values_offset() const { return head_dim / 2 * pair_bytes(); }
  [[gnu::always_inline]] size_t scales_offset() const {
    return values_offset() + padded_dim / 2 * pair_bytes();
  }
  [[gnu::always_inline]] uint8_t* unit(size_t block, size_t head) const {
    return data + block * block_stride + head * unit_bytes;
  }
};

// Attention splits the context here, at fixed positions.
constexpr size_t kSegmentTokens = 256;

// A query's softmax so far: the largest score, and the sum of e^(score - largest).
struct AttendState {
  float largest = -__builtin_inff();
  float total = 0.0f;
};

// Attention of the query heads that share one KV head, for consecutive rows of one sequence, over a
// run of segments. Queries are numbered row by row.
struct AttendItem {
  const CacheView* cache;
  const int32_t* block_table;
  size_t kv_head;
  size_t group;  // query heads
  size_t rows;
  size_t position;  // of the first row
  size_t window;    // positions a row sees, its own included
  float scale;
  bool rounded;          // whether queries and weights are rounded to bf16, for a cache in bf16
  const float* queries;  // rotated; those of a row lie together
  size_t query_stride;   // from row to row
  size_t segment_begin, segment_end;
  AttendState* states;  // [rows * group], added to
  float* sums;          // [rows * group, padded_dim]: Σ e^(score - largest) · value, added to
  float* scratch;       // [rows * group * head_dim + query_tile * (kSegmentTokens + padded_dim)]

  [[gnu::always_inline]] const float* query(size_t index) const {
    return queries + index / group * query_stride + index % group * cache->head_dim;
  }
};

using AttendKernel = void (*)(const AttendItem&);

using ProductKernel = void (*)(const Product&);

// Rows that a scan of a split matrix takes at most.
constexpr size_t kScanRows = 8;

// Panels of a split matrix whose outputs are to be bounded from the high plane alone, with every
// low nibble taken for 7.5: an output is an approximation ± a margin that grows with its standard
// deviation.
struct HighScan {
  const uint8_t* panels;  // the first panel
  size_t num_panels;
  size_t panel_bytes;
  size_t num_outputs;           // of all these panels
  const QuantizedRows* inputs;  // in one plane
  const float* powers;          // [columns / 32, rows]: variance of an output per squared scale
  const float* margins;         // [rows]: margin of an output of variance 1
  const float* bias;            // [num_panels * 16] or null
  // Per row and panel the largest lower and the largest upper bound of its outputs.
  float* lower;  // [rows, stride]
  float* upper;  // [rows, stride]
  size_t stride;
};

// Logits that share one record of maxima in SamplingKernels::scan_logits.
constexpr size_t kStretch = 512;

// Passes over one row of logits; see sampling.inl.
struct SamplingKernels {
  bool (*scan_logits)(const float* x, size_t count, float* maxima);
  float (*weigh)(const float* x, size_t count, float peak, float factor, float* weights);
  float (*sum_at_least)(const float* x, size_t count, float limit, size_t* number);
  size_t (*collect)(const float* x, size_t count, float limit, int32_t* places);
};

// Float weights to blocks of 32 inputs, for the sixteen outputs of a panel; see quantize.inl.
// Factors are rounded to f16 between the two passes.
struct QuantizeKernels {
  // Reads a block of a float panel of type `source` into weights [32, 16], and chooses scales [16]
  // and minimums [16] for codes of `type` (a quantizer target) with little squared error. A scale
  // is NaN where a weight is not finite.
  void (*fit)(TensorType type, TensorType source, const uint8_t* panel, float* weights,
              float* scales, float* minimums);
  // The nearest codes [32, 16].
  void (*encode)(TensorType type, const float* weights, const float* scales, const float* minimums,
                 int8_t* codes);
};

struct KernelTable {
  const char* name;
  // y = x / sqrt(mean(x²) + epsilon) · weight; y is zero-filled up to `stride`. x and y may be one.
  void (*rms_norm)(const float* x, const float* weight, float epsilon, size_t columns,
                   size_t stride, float* y);
  // Fills blocks [begin, end) of row `row` of `target` from their inputs at x, in all its planes.
  void (*quantize_row)(const float* x, size_t row, size_t begin, size_t end,
                       const QuantizedRows& target);
  // Chooses the blocks of row `row` of adaptive planes that keep two.
  void (*choose_refined)(size_t row, const QuantizedRows& target);
  // y = activation(gate) · up, for a multiple of 16 values.
  void (*silu_gate)(const float* gate, const float* up, size_t count, float* y);
  void (*gelu_tanh_gate)(const float* gate, const float* up, size_t count, float* y);
  AttendKernel attend;
  // Adds what one run of segments gave a query to what earlier ones gave.
  void (*merge_attention)(size_t padded_dim, const AttendState& part, const float* part_sums,
                          AttendState& state, float* sums);
  size_t query_tile;  // queries that share a load of keys and values
  // The kernel for a weight type and adaptive or two planes of activations.
  ProductKernel (*product)(TensorType type, Planes planes);
  // The same for split matrices.
  ProductKernel (*split_product)(Planes planes);
  // Bounds the outputs of a split matrix. False when a bound is not finite.
  bool (*scan_high)(const HighScan& scan);
  SamplingKernels sampling;
  QuantizeKernels quantize;
};

}  // namespace lepton
