// A weight matrix packed into panels.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "panel.h"

namespace lepton {

class ThreadPool;

// Zeroed memory aligned to a cache line, or to a large page where it fills one. Pages are taken
// from the system when they are first touched.
class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  // Throws std::bad_alloc.
  explicit AlignedBuffer(size_t bytes);

  uint8_t* data() const { return data_.get(); }
  size_t size() const { return size_; }
  template <class T>
  T* as() const {
    return reinterpret_cast<T*>(data_.get());
  }

 private:
  struct Unmap {
    void* base;
    size_t length;
    void operator()(uint8_t*) const;
  };
  std::unique_ptr<uint8_t, Unmap> data_{nullptr, Unmap{nullptr, 0}};
  size_t size_ = 0;
};

class Matrix {
 public:
  // Packs `rows` × `columns` weights stored row by row as in a GGUF file (or plain f32, f16, bf16).
  // `source` holds source_bytes(type, rows, columns) bytes. Throws std::invalid_argument when the
  // type is unknown or `columns` does not fill whole blocks.
  Matrix(TensorType type, size_t rows, size_t columns, const uint8_t* source, ThreadPool& pool);

  static size_t source_bytes(TensorType type, size_t rows, size_t columns);

  // Writes the `columns` weights of one output as float32, exactly as the format defines them.
  void unpack_row(size_t row, float* out) const;

  TensorType type() const { return type_; }
  size_t rows() const { return rows_; }
  size_t columns() const { return columns_; }
  size_t panels() const { return (rows_ + kPanelRows - 1) / kPanelRows; }
  size_t panel_bytes() const { return panel_bytes_; }
  size_t bytes() const { return data_.size(); }
  const uint8_t* panel(size_t index) const { return data_.data() + index * panel_bytes_; }
  bool quantized() const {
    return type_ != TensorType::kF32 && type_ != TensorType::kF16 && type_ != TensorType::kBF16;
  }

 private:
  void pack_panel(size_t panel, const uint8_t* source, size_t row_bytes);

  TensorType type_;
  size_t rows_;
  size_t columns_;
  size_t panel_bytes_;
  AlignedBuffer data_;
};

}  // namespace lepton
