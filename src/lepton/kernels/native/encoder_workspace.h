// The memory that an encoder's stages work in. All of it is made before threads share a batch: what
// they run must not throw, and so must not ask for memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "encoder_kernels.h"
#include "matrix.h"

namespace lepton {

constexpr size_t round_to(size_t value, size_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

// Rows of bytes, each with a cache line of its own behind it, so that the same column of many rows
// falls into many sets of a cache.
class ByteRows {
 public:
  // Makes room for `rows` rows of `bytes` bytes where there is less. What the rows held before may
  // be lost. Throws std::bad_alloc.
  void allocate(size_t rows, size_t bytes);
  // Lays out the room as `rows` rows of `bytes` bytes. Never allocates: ends the process when there
  // is too little room, as the rows would lie over memory of others.
  void shape(size_t rows, size_t bytes);

  uint8_t* row(size_t index) const { return buffer_.data() + index * stride_; }
  template <class T>
  T* row(size_t index) const {
    return reinterpret_cast<T*>(row(index));
  }
  size_t stride() const { return stride_; }

 private:
  AlignedBuffer buffer_;
  size_t stride_ = 0;
};

// What a stage needs room for, or the most that any stage does: bytes of a row of each buffer, and
// the width of a head of attention.
struct EncoderRoom {
  size_t state = 0, delta = 0, operand = 0, joined = 0, mixed = 0, inner = 0, line = 0;
  size_t head_dim = 0;

  void widen(const EncoderRoom& other);
};

// What texts that go through all layers together become on their way.
struct EncoderWorkspace {
  ByteRows state;                       // float [rows, hidden]
  ByteRows delta;                       // float: what is added to the state
  ByteRows operand;                     // what the next product takes
  ByteRows joined;                      // queries, keys, values
  ByteRows mixed;                       // what attention gives, where it is not an operand as it is
  ByteRows inner;                       // of an MLP
  std::vector<QuantizedRow> quantized;  // the rows of an operand of whole numbers

  // For up to `rows` rows. Throws std::bad_alloc.
  void allocate(size_t rows, const EncoderRoom& most, DenseType type);
};

// What each thread needs for itself, whosever texts it works on.
struct EncoderScratch {
  AlignedBuffer attention;
  AlignedBuffer line;  // one row of floats

  // For texts of up to `tokens` tokens. Throws std::bad_alloc.
  void allocate(size_t tokens, const EncoderRoom& most);
};

}  // namespace lepton
