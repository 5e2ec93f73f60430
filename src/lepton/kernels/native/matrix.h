// A weight matrix packed into panels.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "dispatch.h"
#include "pack.h"
#include "split.h"

namespace lepton {

class ThreadPool;

// Zeroed memory aligned to a cache line, or to a large page where it fills one. Pages are taken
// from the system when they are first touched.
class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  // Throws std::bad_alloc.
  explicit AlignedBuffer(size_t bytes);
  // Memory that shares large pages with other buffers made this way, and goes back to the system
  // when all of these are gone: for weights, whose streams would else wait for a page walk every
  // 4 KiB. Throws std::bad_alloc.
  static AlignedBuffer on_shared_pages(size_t bytes);

  uint8_t* data() const { return data_.get(); }
  size_t size() const { return size_; }
  template <class T>
  T* as() const {
    return reinterpret_cast<T*>(data_.get());
  }

 private:
  std::shared_ptr<uint8_t> data_;
  size_t size_ = 0;
};

class Matrix {
 public:
  // `rows` × `columns` weights of zero, to be packed; `split` in two planes (see split.h), which
  // Q8_0 alone can be. Throws std::invalid_argument when it cannot, the type is unknown, the matrix
  // too large or `columns` does not fill whole blocks.
  Matrix(TensorType type, size_t rows, size_t columns, bool split = false);

  // Packs rows `first`, … from `bytes` bytes at `source`: rows stored one by one as in a GGUF file
  // (or plain f32, f16, bf16) in this matrix's type, or in a float type that is quantized to it.
  // Throws std::invalid_argument when these are no whole panels or no whole rows.
  void pack_rows(size_t first, TensorType source_type, const uint8_t* source, size_t bytes,
                 ThreadPool& pool, const KernelTable& kernels = kernel_table(""));

  // Writes the `columns` weights of one output as float32, exactly as the format defines them.
  void unpack_row(size_t row, float* out) const;

  TensorType type() const { return type_; }
  size_t rows() const { return rows_; }
  size_t columns() const { return columns_; }
  size_t panels() const { return (rows_ + kPanelRows - 1) / kPanelRows; }
  size_t panel_bytes() const { return panel_bytes_; }
  size_t bytes() const { return data_.size() + low_.size(); }
  const uint8_t* panel(size_t index) const { return data_.data() + index * panel_bytes_; }
  bool quantized() const { return is_quantized(type_); }

  // Of a split matrix panel() is the high plane; panel_bytes() is its size.
  bool split() const { return split_; }
  const uint8_t* low_panel(size_t index) const {
    return low_.data() + index * low_panel_bytes(columns_);
  }
  // The panels of a split matrix whose low nibbles are not as good as drawn evenly; see HeadScan.
  const std::vector<size_t>& uneven_panels() const { return uneven_panels_; }

 private:
  TensorType type_;
  size_t rows_;
  size_t columns_;
  bool split_;
  size_t panel_bytes_;
  AlignedBuffer data_;
  AlignedBuffer low_;
  std::vector<size_t> uneven_panels_;
};

}  // namespace lepton
