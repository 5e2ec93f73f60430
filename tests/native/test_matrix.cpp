#include "matrix.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <utility>

#include "products.h"
#include "samples.h"

namespace lepton {
namespace {

constexpr size_t kColumns = 768;
constexpr size_t kOutputs = 37;

std::vector<float> unpack(const Matrix& matrix) {
  std::vector<float> dense(matrix.rows() * matrix.columns());
  for (size_t r = 0; r < matrix.rows(); ++r)
    matrix.unpack_row(r, dense.data() + r * matrix.columns());
  return dense;
}

// Products of the first `rows` inputs on every instruction set, against those in `expected`.
void check_products(const Matrix& matrix, const std::vector<float>& inputs, Planes planes,
                    const std::vector<size_t>& row_counts, const std::vector<float>& expected) {
  for (const std::string& isa : supported_isas()) {
    for (const size_t rows : row_counts) {
      CAPTURE(isa);
      CAPTURE(rows);
      const std::vector<float> actual =
          multiply_alone(matrix, inputs.data(), rows, planes, kernel_table(isa));
      CHECK(differences(actual.data(), expected.data(), actual.size()) == 0);
    }
  }
}

}  // namespace

TEST_CASE("float weights come out of their panels as they went in") {
  for (const auto& [rows, columns] : {std::pair<size_t, size_t>{1, 1}, {16, 7}, {37, 70}}) {
    const std::vector<float> dense = unpack(*random_matrix(TensorType::kF32, rows, columns, 5));
    CHECK(differences(dense.data(), random_floats(rows * columns, 5).data(), dense.size()) == 0);
  }
}

TEST_CASE("a row's weights do not depend on where in a panel it lies") {
  ThreadPool pool(2);
  for (const TensorType type : kAllTypes) {
    CAPTURE(static_cast<int>(type));
    const std::vector<uint8_t> source = random_source(type, kOutputs, kColumns, 6);
    const size_t stride = source.size() / kOutputs;
    Matrix whole(type, kOutputs, kColumns), in_parts(type, kOutputs, kColumns);
    whole.pack_rows(0, type, source.data(), source.size(), pool);
    in_parts.pack_rows(16, type, source.data() + 16 * stride, source.size() - 16 * stride, pool);
    in_parts.pack_rows(0, type, source.data(), 16 * stride, pool);
    const std::vector<float> dense = unpack(whole);
    CHECK(differences(unpack(in_parts).data(), dense.data(), dense.size()) == 0);
    for (const size_t row : {0, 1, 15, 16, 36}) {
      Matrix alone(type, 1, kColumns);
      alone.pack_rows(0, type, source.data() + row * stride, stride, pool);
      CHECK(differences(unpack(alone).data(), dense.data() + row * kColumns, kColumns) == 0);
    }
  }
}

TEST_CASE("products are equal on every instruction set and for every number of rows") {
  const std::vector<size_t> row_counts = {1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13, 64, 70, 140};
  const std::vector<float> inputs = rows_with_spikes(row_counts.back(), kColumns, 7);
  for (const TensorType type : kAllTypes) {
    const auto matrix = random_matrix(type, kOutputs, kColumns, 8);
    for (const Planes planes : {Planes::kAdaptive, Planes::kTwo}) {
      CAPTURE(static_cast<int>(type));
      CAPTURE(static_cast<int>(planes));
      const std::vector<float> expected =
          multiply_alone(*matrix, inputs.data(), row_counts.back(), planes, kernel_table("scalar"));
      check_products(*matrix, inputs, planes, row_counts, expected);
    }
  }
}

TEST_CASE("the spikes of those rows keep their second plane") {
  constexpr size_t kRows = 70;
  const std::vector<float> inputs = rows_with_spikes(kRows, kColumns, 7);
  QuantizedBuffer buffer;
  buffer.reserve(kRows, kColumns, Planes::kAdaptive);
  for (size_t r = 0; r < kRows; ++r)
    quantize(kernel_table("scalar"), inputs.data() + r * kColumns, r, buffer.view());
  const auto* refined = buffer.view().refined;
  const size_t blocks = kRows * kColumns / kBlockColumns;
  CHECK(static_cast<size_t>(std::count_if(refined, refined + blocks,
                                          [](auto mark) { return mark != 0; })) == kRows);
}

TEST_CASE("products of the largest codes neither saturate nor overflow") {
  ThreadPool pool(1);
  for (const TensorType type : kAllTypes) {
    if (!is_quantized(type)) continue;
    for (const uint8_t fill : {0x00, 0x7f, 0x80, 0xff}) {
      std::vector<uint8_t> source = random_source(type, 16, 256, 9);
      size_t block = 0;
      visit_quantized(type, [&]<TensorType T>() { block = kSourceBlockBytes<T>; });
      const std::vector<size_t> factors = factor_offsets(type);
      for (size_t i = 0; i < source.size(); ++i)
        if (std::none_of(factors.begin(), factors.end(),
                         [&](size_t at) { return i % block - at < 2; }))
          source[i] = fill;
      Matrix matrix(type, 16, 256);
      matrix.pack_rows(0, type, source.data(), source.size(), pool);
      std::vector<float> inputs(5 * 256, 1.0f);
      for (size_t i = 0; i < inputs.size(); i += 3) inputs[i] = i < 512 ? 1.0f : -1.0f;
      for (const Planes planes : {Planes::kAdaptive, Planes::kTwo}) {
        CAPTURE(static_cast<int>(type));
        CAPTURE(static_cast<int>(fill));
        CAPTURE(static_cast<int>(planes));
        const std::vector<float> expected =
            multiply_alone(matrix, inputs.data(), 5, planes, kernel_table("scalar"));
        check_products(matrix, inputs, planes, {1, 5}, expected);
      }
    }
  }
}

TEST_CASE("products are close to those of the unpacked weights") {
  const std::vector<float> inputs = random_floats(5 * kColumns, 10);
  for (const TensorType type : kAllTypes) {
    CAPTURE(static_cast<int>(type));
    const auto matrix = random_matrix(type, kOutputs, kColumns, 11);
    const std::vector<float> dense = unpack(*matrix);
    const std::vector<float> outputs =
        multiply_alone(*matrix, inputs.data(), 5, Planes::kTwo, kernel_table(""));
    double worst = 0;
    for (size_t r = 0; r < 5; ++r) {
      for (size_t o = 0; o < kOutputs; ++o) {
        double sum = 0, magnitude = 1e-30;
        for (size_t i = 0; i < kColumns; ++i) {
          const double term = double{inputs[r * kColumns + i]} * double{dense[o * kColumns + i]};
          sum += term;
          magnitude += std::abs(term);
        }
        worst = std::max(worst, std::abs(outputs[r * kOutputs + o] - sum) / magnitude);
      }
    }
    CHECK(worst < 5e-5);
  }
}

TEST_CASE("what does not fit a matrix is refused") {
  ThreadPool pool(1);
  CHECK_THROWS_AS(Matrix(TensorType::kQ4_K, 16, 64), std::invalid_argument);
  CHECK_THROWS_AS(Matrix(static_cast<TensorType>(9), 16, 64), std::invalid_argument);
  CHECK_THROWS_AS(Matrix(TensorType::kF32, size_t{1} << 31, size_t{1} << 31),
                  std::invalid_argument);
  Matrix matrix(TensorType::kQ4_0, 40, 64);
  const std::vector<uint8_t> source = random_source(TensorType::kQ4_0, 40, 64, 12);
  const size_t stride = source.size() / 40;
  const auto pack = [&](size_t first, size_t bytes) {
    matrix.pack_rows(first, TensorType::kQ4_0, source.data(), bytes, pool);
  };
  CHECK_THROWS_AS(pack(0, source.size() - 1), std::invalid_argument);
  CHECK_THROWS_AS(pack(16, source.size()), std::invalid_argument);
  CHECK_THROWS_AS(pack(8, 16 * stride), std::invalid_argument);
  CHECK_THROWS_AS(pack(0, 8 * stride), std::invalid_argument);
  CHECK_THROWS_AS(pack(48, 0), std::invalid_argument);
  CHECK_NOTHROW(pack(32, 8 * stride));
}

}  // namespace lepton
