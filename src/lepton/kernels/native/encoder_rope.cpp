#include "encoder_rope.h"

#include <cmath>

namespace lepton {

namespace {

// Positions that a thread takes at a time.
constexpr size_t kPositionGrain = 16;

}  // namespace

EncoderRopeTable::EncoderRopeTable(const EncoderRope& rope)
    : inverse_frequencies_(rope.inverse_frequencies), magnitude_(rope.magnitude) {}

bool EncoderRopeTable::serves(const EncoderRope& rope) const {
  return rope.magnitude == magnitude_ && rope.inverse_frequencies == inverse_frequencies_;
}

void EncoderRopeTable::grow(size_t positions, ThreadPool& pool) {
  if (positions <= positions_) return;
  values_.resize(positions * 2 * half());
  pool.parallel_for(positions - positions_, kPositionGrain, [&](size_t begin, size_t end, int) {
    for (size_t p = positions_ + begin; p < positions_ + end; ++p) {
      float* cosines = values_.data() + p * 2 * half();
      for (size_t i = 0; i < half(); ++i) {
        const float angle = static_cast<float>(p) * inverse_frequencies_[i];
        cosines[i] = static_cast<float>(std::cos(double{angle})) * magnitude_;
        cosines[half() + i] = static_cast<float>(std::sin(double{angle})) * magnitude_;
      }
    }
  });
  positions_ = positions;
}

}  // namespace lepton
