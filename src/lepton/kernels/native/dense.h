// Weights of an encoder, packed for its products.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "encoder_kernels.h"
#include "matrix.h"

namespace lepton {

// A matrix of `rows` outputs × `columns` inputs in panels of 16 outputs.
class DenseMatrix {
 public:
  // Throws std::invalid_argument when a dimension is zero or the matrix is too large.
  DenseMatrix(DenseType type, size_t rows, size_t columns);

  // Packs `count` rows of `columns` floats from row `first` on, rounded to the type. Throws
  // std::invalid_argument, which names the row, when a number is not finite.
  void pack_rows(size_t first, const float* source, size_t count);

  DenseType type() const { return type_; }
  size_t rows() const { return rows_; }
  size_t columns() const { return columns_; }
  size_t steps() const { return steps_; }
  size_t panels() const { return (rows_ + 15) / 16; }
  size_t panel_bytes() const { return steps_ * 64; }
  size_t bytes() const {
    return data_.size() + 2 * scales_.size() * sizeof(float) + starts_.size() * sizeof(int32_t);
  }
  const uint8_t* panel(size_t index) const { return data_.data() + index * panel_bytes(); }
  // The scale and the sum of the rounded weights of each output, in whole panels; of whole numbers
  // alone.
  const float* scales() const { return scales_.data(); }
  const float* sums() const { return sums_.data(); }
  // Of int8 alone: where sums of products with unsigned states start, in whole panels.
  const int32_t* starts() const { return starts_.data(); }

 private:
  DenseType type_;
  size_t rows_, columns_, steps_;
  AlignedBuffer data_;
  std::vector<float> scales_, sums_;
  std::vector<int32_t> starts_;

  // How many steps of a whole number one is, for a row of weights.
  float steps_of_one(const float* row) const;
};

// Vectors [rows, columns] to look up, row by row in memory, in float32 or bf16.
class VectorTable {
 public:
  // Throws std::invalid_argument when a dimension is zero or too large.
  VectorTable(DenseType type, size_t rows, size_t columns);

  // Takes `count` rows of `columns` floats from row `first` on, rounded to the type. Throws
  // std::invalid_argument, which names the row, when a number is not finite.
  void pack_rows(size_t first, const float* source, size_t count);

  void unpack_row(size_t row, float* out) const;

  size_t rows() const { return rows_; }
  size_t columns() const { return columns_; }
  size_t bytes() const { return data_.size(); }

 private:
  bool half_;
  size_t rows_, columns_;
  AlignedBuffer data_;
};

}  // namespace lepton
