// What the two halves of EncoderProgram share: encoder.cpp, which builds and directs, and
// encoder_stages.cpp, which computes.
#pragma once

#include <cstddef>
#include <optional>

#include "encoder.h"

namespace lepton {

struct EncoderProgram::Layer {
  std::optional<EncoderAttentionStage> attention;
  std::optional<EncoderMlpStage> mlp;
  EncoderRoom room;
  size_t rope_table = 0;  // index, where attention has a rope
};

// Texts that go through all layers together.
struct EncoderProgram::Group {
  size_t first_text, last_text;  // exclusive
  size_t first_row, rows;
};

// The threads that share the work on a group: all of the pool, or the caller alone.
struct EncoderProgram::Team {
  ThreadPool* pool;
  size_t caller;  // its number among the threads

  size_t size() const { return pool ? static_cast<size_t>(pool->threads()) : 1; }
  template <class Body>
  void each(size_t count, size_t grain, const Body& body) const {
    if (pool == nullptr)
      body(size_t{0}, count, caller);
    else
      pool->parallel_for(count, grain, [&](size_t begin, size_t end, int worker) {
        body(begin, end, static_cast<size_t>(worker));
      });
  }
};

}  // namespace lepton
