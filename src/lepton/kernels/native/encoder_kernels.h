// The table of kernels for encoders that every instruction set provides.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace lepton {

// What products of an encoder multiply. Panels have 16 outputs: for each step along the inputs, 64
// bytes that meet four bytes of a row.
//   kFloat32   a step is one input
//   kBFloat16  two inputs
//   kInt8      four inputs; weights have a scale per output, rows a scale and a middle per row;
//              two neighbouring weights, of one step and an even place, sum to at most 128 either
//              way, so that their products with two bytes without a sign sum to 16 bits
//   kInt16     two inputs; weights have a scale per output, rows a scale per row
enum class DenseType { kFloat32, kBFloat16, kInt8, kInt16 };

constexpr size_t inputs_per_step(DenseType type) {
  return type == DenseType::kInt8 ? 4 : type == DenseType::kFloat32 ? 1 : 2;
}

// Whether weights and states are whole numbers times scales.
constexpr bool has_scales(DenseType type) {
  return type == DenseType::kInt8 || type == DenseType::kInt16;
}

// The greatest Euclidean length of a row of so many int16 numbers, of weights or states alike,
// before they are rounded: by the inequality of Cauchy and Schwarz no sum of products then leaves
// 32 bits. Rounding adds at most half of √columns to it.
[[gnu::always_inline]] inline float longest_words(size_t columns) {
  return 46294.0f - 0.5f * __builtin_sqrtf(static_cast<float>(columns));
}

// What the whole numbers q of a row in int8 stand for: scale · q + middle. Values after a norm or
// an activation lie to one side of zero, so that numbers around the middle of their range have up
// to twice the resolution of numbers around zero.
struct QuantizedRow {
  float scale;
  float middle;
  int32_t sum;  // of the whole numbers
};

// What EncoderKernels.unsigned_states adds to whole numbers.
constexpr int kStateOffset = 128;

enum class Activation { kNone, kGelu, kGeluTanh, kRelu, kSilu };

// output[r, o] = activation(bias[o] + Σ weights[o, i] · input[r, i]). A row's result does not
// depend on how many rows go together.
struct DenseProduct {
  const uint8_t* input;  // [rows], zero-padded to whole steps
  size_t input_stride;   // bytes
  size_t rows;
  size_t steps;
  const uint8_t* panels;  // the first panel
  size_t panel_bytes;
  size_t num_panels;
  const float* bias;              // [num_panels * 16]
  const float* scales;            // whole numbers: [num_panels * 16]
  const float* sums;              // whole numbers: [num_panels * 16], of each output's weights
  const int32_t* starts;          // int8: [num_panels * 16], -kStateOffset · Σ whole weights
  const QuantizedRow* quantized;  // whole numbers: [rows]
  uint8_t* output;                // [rows], of whole panels
  size_t output_stride;           // bytes
  bool half_output;               // bf16, otherwise float32
  Activation activation;
};

// Attention of the query heads that share one key/value head, in one text.
struct EncoderAttention {
  const uint8_t* queries;  // of the first head of the group; float32 or bf16 like all that follows
  const uint8_t* keys;
  const uint8_t* values;
  size_t stride;  // bytes from row to row, of all three
  size_t tokens;
  size_t group;     // query heads, one after the other in a row
  size_t head_dim;  // even
  float scale;
  bool causal;
  size_t window;              // tokens less than so far away are seen; SIZE_MAX: all
  size_t row_begin, row_end;  // the queries to do
  uint8_t* output;            // of the first head of the group
  size_t output_stride;       // bytes
  uint8_t* scratch;           // attention_scratch_bytes() of memory aligned to 64 bytes
};

size_t attention_scratch_bytes(size_t tokens, size_t head_dim);

struct EncoderKernels {
  const char* name;
  // Whether products in int8 take rows as bytes without a sign, kStateOffset above what they stand
  // for, and not as bytes with one.
  bool unsigned_states;
  // By DenseType; null where the machine lacks the instructions.
  void (*multiply[4])(const DenseProduct&);
  // On float32, and on bf16 where the machine has instructions for it.
  void (*attend)(const EncoderAttention&);
  void (*attend_half)(const EncoderAttention&);
  // y = (x - mean) / sqrt(variance + epsilon) · weight + bias. x and y may be one.
  void (*layer_norm)(const float* x, const float* weight, const float* bias, float epsilon,
                     size_t columns, float* y);
  void (*rms_norm)(const float* x, const float* weight, float epsilon, size_t columns, float* y);
  // x += y, for any count.
  void (*add)(const float* y, size_t count, float* x);
  // Rounds to bf16, and back. Counts are multiples of 16.
  void (*to_half)(const float* x, size_t count, uint16_t* y);
  void (*from_half)(const uint16_t* x, size_t count, float* y);
  // Whole numbers of at most 127 that stand for x, which is zero-padded to a multiple of 16; so
  // are they. Bytes are as unsigned_states tells.
  QuantizedRow (*quantize)(const float* x, size_t count, uint8_t* y);
  // The same in 16 bits, around zero and no longer than longest_words(count).
  QuantizedRow (*quantize_words)(const float* x, size_t count, int16_t* y);
  // gate = activation(gate) · up, for a multiple of 16 values.
  void (*gate)(Activation activation, const float* up, size_t count, float* gate);
};

// The kernels that belong to an instruction set of kernel_table(), with bf16 instructions where
// `half` and this machine allow. Throws as kernel_table() does.
const EncoderKernels& encoder_kernels(const std::string& isa, bool half);

// Whether encoder_kernels(isa, true) multiplies bf16.
bool has_half_products(const std::string& isa);

}  // namespace lepton
