#include "encoder_workspace.h"

#include <algorithm>
#include <cstdlib>

namespace lepton {

namespace {

size_t stride_of(size_t bytes) { return round_to(bytes, 64) + 64; }

void grow(AlignedBuffer& buffer, size_t bytes) {
  if (bytes > buffer.size()) buffer = AlignedBuffer(bytes);
}

}  // namespace

void ByteRows::allocate(size_t rows, size_t bytes) {
  if (bytes > 0) grow(buffer_, rows * stride_of(bytes));
}

void ByteRows::shape(size_t rows, size_t bytes) {
  stride_ = stride_of(bytes);
  if (rows * stride_ > buffer_.size()) std::abort();
}

void EncoderRoom::widen(const EncoderRoom& other) {
  for (const auto member :
       {&EncoderRoom::state, &EncoderRoom::delta, &EncoderRoom::operand, &EncoderRoom::joined,
        &EncoderRoom::mixed, &EncoderRoom::inner, &EncoderRoom::line, &EncoderRoom::head_dim})
    this->*member = std::max(this->*member, other.*member);
}

void EncoderWorkspace::allocate(size_t rows, const EncoderRoom& most, DenseType type) {
  state.allocate(rows, most.state);
  delta.allocate(rows, most.delta);
  operand.allocate(rows, most.operand);
  joined.allocate(rows, most.joined);
  mixed.allocate(rows, most.mixed);
  inner.allocate(rows, most.inner);
  if (has_scales(type) && rows > quantized.size()) quantized.resize(rows);
}

void EncoderScratch::allocate(size_t tokens, const EncoderRoom& most) {
  grow(attention, attention_scratch_bytes(tokens, most.head_dim));
  grow(line, most.line);
}

}  // namespace lepton
