#include "products.h"

#include <algorithm>

#include "thread_pool.h"

namespace lepton {

void Rows::reserve(size_t rows, size_t columns) {
  stride_ = round_up(columns, 64);
  if (rows * stride_ * sizeof(float) > buffer_.size())
    buffer_ = AlignedBuffer(rows * stride_ * sizeof(float));
}

void QuantizedBuffer::reserve(size_t rows, size_t columns, int planes) {
  const size_t padded = round_up(columns, kBlockColumns);
  view_.planes = planes;
  view_.columns = padded;
  const size_t values = rows * padded;
  if (values * static_cast<size_t>(planes) > values_.size()) {
    scales_ = AlignedBuffer(values / 32 * sizeof(float));
    integer_sums_ = AlignedBuffer(values / 16 * static_cast<size_t>(planes) * sizeof(int32_t));
    sums_ = AlignedBuffer(values / 16 * sizeof(float));
    // Last: its size says how many rows the others hold, also after one could not be had.
    values_ = AlignedBuffer(values * static_cast<size_t>(planes));
  }
  for (int p = 0; p < planes; ++p) {
    view_.values[p] = values_.as<int8_t>() + static_cast<size_t>(p) * values;
    view_.integer_sums[p] = integer_sums_.as<int32_t>() + static_cast<size_t>(p) * values / 16;
  }
  view_.scales = scales_.as<float>();
  view_.sums = sums_.as<float>();
}

void multiply(ThreadPool& pool, const KernelTable& kernels, const Rows& input,
              const QuantizedRows& quantized, size_t rows, std::initializer_list<Term> terms,
              bool accumulate) {
  size_t panels = 0;
  for (const Term& term : terms) panels += term.matrix.panels();
  const size_t row_blocks = (rows + kRowBlock - 1) / kRowBlock;
  const size_t chunk = std::max<size_t>(1, panels / (static_cast<size_t>(pool.threads()) * 8));
  pool.parallel_for(row_blocks * panels, chunk, [&](size_t begin, size_t end, int) {
    while (begin < end) {
      size_t panel = begin % panels;
      const Term* term = terms.begin();
      for (; panel >= term->matrix.panels(); ++term) panel -= term->matrix.panels();
      const Matrix& matrix = term->matrix;
      Product product{};
      product.panels = matrix.panel(panel);
      product.num_panels = std::min(end - begin, matrix.panels() - panel);
      product.panel_bytes = matrix.panel_bytes();
      product.columns = matrix.columns();
      product.quantized = &quantized;
      product.input = input.row(0);
      product.input_stride = input.stride();
      product.bias = term->bias.empty() ? nullptr : term->bias.data() + panel * kPanelRows;
      product.output = term->output.row(0) + panel * kPanelRows;
      product.output_stride = term->output.stride();
      product.row_begin = begin / panels * kRowBlock;
      product.row_end = std::min(rows, product.row_begin + kRowBlock);
      product.accumulate = accumulate;
      kernels.product(matrix.type(), quantized.planes)(product);
      begin += product.num_panels;
    }
  });
}

std::vector<float> multiply_alone(const Matrix& matrix, const float* inputs, size_t rows,
                                  int planes, const KernelTable& kernels) {
  const size_t columns = matrix.columns(), outputs = matrix.rows();
  Rows input, output;
  QuantizedBuffer quantized;
  input.reserve(rows, columns);
  output.reserve(rows, outputs);
  quantized.reserve(rows, columns, planes);
  for (size_t r = 0; r < rows; ++r) {
    std::copy_n(inputs + r * columns, columns, input.row(r));
    if (matrix.quantized()) kernels.quantize_row(input.row(r), r, quantized.view());
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
