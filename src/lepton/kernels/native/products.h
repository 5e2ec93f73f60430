// Matrix products of many rows, and the buffers that hold rows between them.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <vector>

#include "kernels.h"
#include "matrix.h"
#include "thread_pool.h"

namespace lepton {

constexpr size_t round_up(size_t value, size_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

// Rows of floats in memory that grows on demand, with at least 16 floats after each, so that the
// same column of many rows falls into many sets of a cache.
class Rows {
 public:
  // What the rows held before is lost.
  void reserve(size_t rows, size_t columns);

  float* row(size_t index) const { return buffer_.as<float>() + index * stride_; }
  size_t stride() const { return stride_; }
  size_t bytes() const { return buffer_.size(); }

 private:
  AlignedBuffer buffer_;
  size_t stride_ = 0;
};

// Memory for quantized activations that grows on demand.
class QuantizedBuffer {
 public:
  // Without `words` the products of signed codes find none; see takes_words().
  void reserve(size_t rows, size_t columns, Planes planes, bool words = true);

  const QuantizedRows& view() const { return view_; }

 private:
  QuantizedRows view_{};
  AlignedBuffer values_, words_, refined_, scales_, integer_sums_, sums_;
  size_t capacity_ = 0;  // codes of one plane that all of them hold
};

// Whether products of this matrix read QuantizedRows::words where an instruction set has WordDot.
bool takes_words(const Matrix& matrix, Planes planes);

// Quantizes a whole row.
inline void quantize(const KernelTable& kernels, const float* x, size_t row,
                     const QuantizedRows& target) {
  kernels.quantize_row(x, row, 0, target.columns / kBlockColumns, target);
  if (target.planes == Planes::kAdaptive) kernels.choose_refined(row, target);
}

// One of several products of the same input. The bias is empty or fills whole panels, and so does
// a row of the output.
struct Term {
  const Matrix& matrix;
  const std::vector<float>& bias;
  float* output;
  size_t output_stride;

  Term(const Matrix& m, const std::vector<float>& b, const Rows& rows)
      : Term(m, b, rows.row(0), rows.stride()) {}
  Term(const Matrix& m, const std::vector<float>& b, float* rows, size_t stride)
      : matrix(m), bias(b), output(rows), output_stride(stride) {}
};

// Panels [panel, panel + count) for rows [row_begin, row_end), at most kRowBlock of them.
struct Patch {
  size_t panel, count;
  size_t row_begin, row_end;
};

// A patch of a product on the calling thread; its first row and column go to `output`.
void multiply_patch(const KernelTable& kernels, const Rows& input, const QuantizedRows& quantized,
                    const Matrix& matrix, const std::vector<float>& bias, const Patch& patch,
                    float* output, size_t output_stride, bool accumulate);

// Calls body(begin, end, row_begin, row_end, worker) so that every range of `units` meets every
// block of rows once, in parallel; ranges have at most `most` units.
template <class Body>
void parallel_patches(ThreadPool& pool, size_t units, size_t most, size_t rows, const Body& body) {
  const size_t row_blocks = (rows + kRowBlock - 1) / kRowBlock;
  const size_t chunk = std::max<size_t>(1, units / (static_cast<size_t>(pool.threads()) * 8));
  pool.parallel_for(row_blocks * units, chunk, [&](size_t begin, size_t end, int worker) {
    while (begin < end) {
      const size_t row_begin = begin / units * kRowBlock;
      const size_t first = begin % units;
      const size_t count = std::min({end - begin, units - first, most});
      body(first, first + count, row_begin, std::min(rows, row_begin + kRowBlock), worker);
      begin += count;
    }
  });
}

// output[r] (+)= bias + matrix · input[r] for the first `rows` rows, all terms in one parallel
// loop. `quantized` holds the same input for terms whose weights are quantized.
void multiply(ThreadPool& pool, const KernelTable& kernels, const Rows& input,
              const QuantizedRows& quantized, size_t rows, std::initializer_list<Term> terms,
              bool accumulate);

// The product of one matrix with inputs [rows, columns], alone and on one thread, as a step would
// compute it: [rows, outputs].
std::vector<float> multiply_alone(const Matrix& matrix, const float* inputs, size_t rows,
                                  Planes planes, const KernelTable& kernels);

}  // namespace lepton
