// How encoders turn queries and keys by their positions.
#pragma once

#include <cstddef>
#include <vector>

#include "thread_pool.h"

namespace lepton {

struct EncoderRope {
  std::vector<float> inverse_frequencies;  // [head_dim / 2]
  bool interleaved;
  float magnitude;
};

// Cosines and sines of a rope, times its magnitude, for all positions up to the highest that was
// asked for. They are the same in every layer, head and text, and cost more than a turn itself.
class EncoderRopeTable {
 public:
  explicit EncoderRopeTable(const EncoderRope& rope);

  // Whether `rope` turns by the same angles; how pairs lie in a head does not matter.
  bool serves(const EncoderRope& rope) const;

  // Makes sure of positions 0 … `positions` - 1. Throws std::bad_alloc, or what
  // ThreadPool::parallel_for throws; the table then is as before.
  void grow(size_t positions, ThreadPool& pool);

  // [head_dim / 2] each.
  const float* cosines(size_t position) const { return values_.data() + position * 2 * half(); }
  const float* sines(size_t position) const { return cosines(position) + half(); }

 private:
  size_t half() const { return inverse_frequencies_.size(); }

  std::vector<float> inverse_frequencies_;
  float magnitude_;
  size_t positions_ = 0;
  std::vector<float> values_;  // for each position, cosines and then sines
};

}  // namespace lepton
