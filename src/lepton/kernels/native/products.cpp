#include "products.h"

#include <algorithm>

#include "thread_pool.h"

namespace lepton {

void Rows::reserve(size_t rows, size_t columns) {
  stride_ = round_up(columns, 64) + 16;
  if (rows * stride_ * sizeof(float) > buffer_.size())
    buffer_ = AlignedBuffer(rows * stride_ * sizeof(float));
}

void QuantizedBuffer::reserve(size_t rows, size_t columns, Planes planes, bool words) {
  const size_t padded = round_up(columns, kBlockColumns);
  const size_t values = rows * padded;
  const size_t byte_planes = planes == Planes::kOne ? 1 : 2;
  if (values > capacity_ || values * byte_planes > values_.size()) {
    capacity_ = 0;  // Until all of them could be had.
    words_ = AlignedBuffer(values * sizeof(int16_t));
    refined_ = AlignedBuffer(values / 32);
    scales_ = AlignedBuffer(values / 32 * sizeof(float));
    integer_sums_ = AlignedBuffer(values / 32 * QuantizedRows::kSums * sizeof(int32_t));
    sums_ = AlignedBuffer(values / 32 * QuantizedRows::kSums * sizeof(float));
    values_ = AlignedBuffer(values * byte_planes);
    capacity_ = values;
  }
  view_ = {planes,
           rows,
           padded,
           {values_.as<int8_t>(), values_.as<int8_t>() + values * (byte_planes - 1)},
           refined_.data(),
           words ? words_.as<int16_t>() : nullptr,
           scales_.as<float>(),
           integer_sums_.as<int32_t>(),
           sums_.as<float>()};
}

bool takes_words(const Matrix& matrix, Planes planes) {
  bool is_signed = false;
  visit_quantized(matrix.type(),
                  [&]<TensorType T>() { is_signed = has_signed_codes(LayoutOf<T>::kCodes); });
  return is_signed || planes == Planes::kTwo;
}

void multiply_patch(const KernelTable& kernels, const Rows& input, const QuantizedRows& quantized,
                    const Matrix& matrix, const std::vector<float>& bias, const Patch& patch,
                    float* output, size_t output_stride, bool accumulate) {
  Product product{};
  product.panels = matrix.panel(patch.panel);
  product.num_panels = patch.count;
  product.panel_bytes = matrix.panel_bytes();
  product.columns = matrix.columns();
  product.quantized = &quantized;
  product.input = input.row(0);
  product.input_stride = input.stride();
  product.bias = bias.empty() ? nullptr : bias.data() + patch.panel * kPanelRows;
  product.output = output;
  product.output_stride = output_stride;
  product.row_begin = patch.row_begin;
  product.row_end = patch.row_end;
  product.accumulate = accumulate;
  if (matrix.split()) product.low = matrix.low_panel(patch.panel);
  const ProductKernel kernel = matrix.split() ? kernels.split_product(quantized.planes)
                                              : kernels.product(matrix.type(), quantized.planes);
  kernel(product);
}

void multiply(ThreadPool& pool, const KernelTable& kernels, const Rows& input,
              const QuantizedRows& quantized, size_t rows, std::initializer_list<Term> terms,
              bool accumulate) {
  // Panels go in pairs, which some kernels take together.
  const auto pairs = [](const Matrix& matrix) { return (matrix.panels() + 1) / 2; };
  size_t units = 0;
  for (const Term& term : terms) units += pairs(term.matrix);
  parallel_patches(
      pool, units, units, rows,
      [&](size_t begin, size_t end, size_t row_begin, size_t row_end, int) {
        size_t first = 0;  // unit of the current term among all
        for (const Term& term : terms) {
          const size_t last = first + pairs(term.matrix);
          const size_t from = std::max(begin, first), to = std::min(end, last);
          if (from < to) {
            const size_t panel = (from - first) * 2;
            const size_t count = std::min((to - first) * 2, term.matrix.panels()) - panel;
            multiply_patch(kernels, input, quantized, term.matrix, term.bias,
                           {panel, count, row_begin, row_end},
                           term.output + row_begin * term.output_stride + panel * kPanelRows,
                           term.output_stride, accumulate);
          }
          first = last;
        }
      });
}

std::vector<float> multiply_alone(const Matrix& matrix, const float* inputs, size_t rows,
                                  Planes planes, const KernelTable& kernels) {
  const size_t columns = matrix.columns(), outputs = matrix.rows();
  Rows input, output;
  QuantizedBuffer quantized;
  input.reserve(rows, columns);
  output.reserve(rows, outputs);
  quantized.reserve(rows, columns, planes);
  for (size_t r = 0; r < rows; ++r) {
    std::copy_n(inputs + r * columns, columns, input.row(r));
    if (matrix.quantized()) quantize(kernels, input.row(r), r, quantized.view());
  }
  ThreadPool pool(1);
  const std::vector<float> no_bias;
  multiply(pool, kernels, input, quantized.view(), rows, {{matrix, no_bias, output}}, false);
  std::vector<float> result(rows * outputs);
  for (size_t r = 0; r < rows; ++r)
    std::copy_n(output.row(r), outputs, result.data() + r * outputs);
  return result;
}

}  // namespace lepton
