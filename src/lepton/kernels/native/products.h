// Matrix products of many rows, and the buffers that hold rows between them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <vector>

#include "kernels.h"
#include "matrix.h"

namespace lepton {

class ThreadPool;

// Rows that go through a panel of weights together.
constexpr size_t kRowBlock = 64;

constexpr size_t round_up(size_t value, size_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

// Rows of floats in memory that grows on demand; the stride is a multiple of 64.
class Rows {
 public:
  // What the rows held before is lost.
  void reserve(size_t rows, size_t columns);

  float* row(size_t index) const { return buffer_.as<float>() + index * stride_; }
  size_t stride() const { return stride_; }

 private:
  AlignedBuffer buffer_;
  size_t stride_ = 0;
};

// Memory for quantized activations that grows on demand.
class QuantizedBuffer {
 public:
  void reserve(size_t rows, size_t columns, int planes);

  const QuantizedRows& view() const { return view_; }

 private:
  QuantizedRows view_{};
  AlignedBuffer values_, scales_, integer_sums_, sums_;
};

// One of several products of the same input. The bias is empty or fills whole panels.
struct Term {
  const Matrix& matrix;
  const std::vector<float>& bias;
  const Rows& output;
};

// output[r] (+)= bias + matrix · input[r] for the first `rows` rows, all terms in one parallel
// loop. `quantized` holds the same input for terms whose weights are quantized.
void multiply(ThreadPool& pool, const KernelTable& kernels, const Rows& input,
              const QuantizedRows& quantized, size_t rows, std::initializer_list<Term> terms,
              bool accumulate);

// The product of one matrix with inputs [rows, columns], alone and on one thread, as a step would
// compute it: [rows, outputs].
std::vector<float> multiply_alone(const Matrix& matrix, const float* inputs, size_t rows,
                                  int planes, const KernelTable& kernels);

}  // namespace lepton
