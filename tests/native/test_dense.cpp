// What an encoder's weights may be.
#include <doctest/doctest.h>

#include <cfloat>
#include <limits>
#include <stdexcept>

#include "dense.h"
#include "encoder_samples.h"

namespace lepton {
namespace {

constexpr size_t kRows = 40, kColumns = 37;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Rows 10 … 39 are packed with `bad` in row 17.
template <class Weights>
void check_refused(Weights& weights) {
  for (const float bad : {kInfinity, -kInfinity, std::numeric_limits<float>::quiet_NaN()})
    for (const size_t column : {size_t{0}, size_t{16}, kColumns - 1}) {
      CAPTURE(bad);
      CAPTURE(column);
      std::vector<float> rows = random_floats(30 * kColumns, 1);
      rows[7 * kColumns + column] = bad;
      CHECK_THROWS_WITH_AS(weights.pack_rows(10, rows.data(), 30),
                           "row 17 holds a number that is not finite", std::invalid_argument);
    }
}

}  // namespace

TEST_CASE("weights that are not finite are refused") {
  for (const DenseType type : kDenseTypes) {
    CAPTURE(static_cast<int>(type));
    DenseMatrix matrix(type, kRows, kColumns);
    check_refused(matrix);
  }
}

TEST_CASE("vectors that are not finite are refused") {
  for (const DenseType type : {DenseType::kFloat32, DenseType::kBFloat16}) {
    CAPTURE(static_cast<int>(type));
    VectorTable table(type, kRows, kColumns);
    check_refused(table);
  }
}

TEST_CASE("the largest and smallest finite weights are packed") {
  std::vector<float> row(kColumns, 0.0f);
  row[0] = FLT_MAX;
  row[1] = -FLT_MAX;
  row[2] = FLT_TRUE_MIN;
  for (const DenseType type : kDenseTypes) {
    CAPTURE(static_cast<int>(type));
    DenseMatrix matrix(type, 1, kColumns);
    CHECK_NOTHROW(matrix.pack_rows(0, row.data(), 1));
  }
}

TEST_CASE("tables give back the rows they were given") {
  const std::vector<float> rows = random_floats(kRows * kColumns, 2);
  VectorTable table(DenseType::kFloat32, kRows, kColumns);
  table.pack_rows(0, rows.data(), 25);
  table.pack_rows(25, &rows[25 * kColumns], kRows - 25);
  std::vector<float> found(kColumns);
  for (size_t r = 0; r < kRows; ++r) {
    table.unpack_row(r, found.data());
    CHECK(differences(found.data(), &rows[r * kColumns], kColumns) == 0);
  }
}

}  // namespace lepton
