// The largest logits of a few rows, without reading every weight of the output head.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "products.h"

namespace lepton {

struct HeadTask {
  const Rows& input;
  const QuantizedRows& quantized;  // the same, at most kScanRows of them
  const Matrix& matrix;            // split
  const std::vector<float>& bias;  // empty, or filling whole panels
  const int32_t* num_best;         // [rows], 1 … HeadScan::kMostBest
  float* logits;                   // [rows, outputs]
};

// Bounds every logit from the high plane of a split matrix and computes in full only those that may
// be among the largest. The error of a bound's centre is a sum over hundreds of low nibbles, so
// bounds hold with overwhelming probability where these are as good as drawn evenly. Panels where
// they are not, for many codes are equal say, are always computed.
class HeadScan {
 public:
  static constexpr size_t kMostBest = 64;

  // Whether so few of the largest logits of so few rows are wanted that a scan is likely to save
  // time. `num_best` is [rows], 0 for all, or null for all of every row.
  static bool pays(const Matrix& matrix, size_t rows, const int32_t* num_best);

  HeadScan(ThreadPool& pool, const KernelTable& kernels) : pool_(pool), kernels_(kernels) {}

  // Writes logits: those among the num_best largest of their row, all that equal the last of them,
  // and some more, equal to the full product to the bit; the lowest finite float for all others.
  // False when the full product is called for: too many may be among the largest, or something is
  // not finite.
  bool run(const HeadTask& task);

 private:
  void measure_inputs(const HeadTask& task);
  bool scan(const HeadTask& task);
  bool choose_reaching(const std::vector<float>& bounds, size_t rows, size_t panels);
  void compute_chosen(const HeadTask& task);
  float find_computed(const HeadTask& task, size_t row) const;

  ThreadPool& pool_;
  const KernelTable& kernels_;
  QuantizedBuffer coarse_;               // the input in one plane
  std::vector<float> powers_, margins_;  // see HighScan
  std::vector<float> lower_, upper_;     // [rows, panels]
  std::vector<float> thresholds_;        // [rows]: as many logits as are wanted reach it
  std::vector<uint32_t> computed_;       // [panels]: rows whose logits are there, a bit each
  std::vector<Patch> patches_;           // chosen last, of one panel each
};

}  // namespace lepton
