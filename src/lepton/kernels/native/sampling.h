// From logits to tokens: all rows of a step in one call.
#pragma once

#include <cstdint>
#include <memory>
#include <unordered_map>
#include <vector>

#include "kernels.h"
#include "thread_pool.h"

namespace lepton {

// How the tokens of one sequence are chosen; see SamplingParams in engine/sampling_params.py.
struct SamplingSettings {
  double temperature = 1.0;
  size_t top_k = 0;
  double top_p = 1.0;
  double min_p = 0.0;
  double repetition_penalty = 1.0;
  double presence_penalty = 0.0;
  double frequency_penalty = 0.0;
  // Random numbers are keyed by (seed, index) and counted by position.
  uint64_t seed = 0;
  uint64_t index = 0;
  size_t num_prompt_tokens = 0;
  // Tokens that may not be chosen while fewer than min_tokens are generated.
  std::vector<int32_t> stop_token_ids;
  size_t min_tokens = 0;

  bool bars_stops(size_t position) const { return position < num_prompt_tokens + min_tokens; }
  bool penalized() const {
    return repetition_penalty != 1 || presence_penalty != 0 || frequency_penalty != 0;
  }
};

// Settings of a sequence and the tokens it holds, as far as penalties need them.
class SamplingState {
 public:
  struct Seen {
    int32_t token;
    int32_t generated;  // how often it was generated; 0 for a token of the prompt alone
  };

  explicit SamplingState(SamplingSettings settings) : settings_(std::move(settings)) {}

  const SamplingSettings& settings() const { return settings_; }
  const std::vector<Seen>& seen() const { return seen_; }

  size_t num_observed() const { return num_observed_; }

  // Takes note of the sequence's next tokens, prompt first.
  void observe(const std::vector<int32_t>& tokens);

  // How many of the largest logits (all that equal the last of them included) decide the token at a
  // position; 0 when any logit may.
  size_t num_deciding(size_t position) const;

 private:
  SamplingSettings settings_;
  size_t num_observed_ = 0;
  std::vector<Seen> seen_;
  std::unordered_map<int32_t, size_t> place_of_token_;
};

// The logits of a sequence's next token: of the whole vocabulary, or of the candidates `ids`, which
// ascend and hold at least the state's num_deciding() largest.
struct SampledRow {
  const float* logits;
  const int32_t* ids;  // or null
  size_t count;
  const SamplingState* state;
  size_t position;  // tokens before it
};

// In the place of a token.
constexpr int32_t kNotFinite = -1;
constexpr int32_t kAllBarred = -2;

struct LogprobRow {
  const float* logits;
  size_t count;
  int32_t token;
  size_t num_top;
};

struct Logprobs {
  double chosen;  // NaN when a logit is not finite
  std::vector<int32_t> top_ids;
  std::vector<double> top;
};

// Samples rows in parallel. A row's token depends on nothing but that row, and is the same on every
// instruction set and at any number of threads. One caller at a time.
class Sampler {
 public:
  Sampler(std::shared_ptr<ThreadPool> pool, const KernelTable& kernels);
  ~Sampler();
  Sampler(const Sampler&) = delete;
  Sampler& operator=(const Sampler&) = delete;

  // A token per row, or kNotFinite or kAllBarred.
  std::vector<int32_t> sample(const std::vector<SampledRow>& rows);

  // Log probabilities of a token and of the most likely ones (the lower id first among equals).
  std::vector<Logprobs> logprobs(const std::vector<LogprobRow>& rows);

 private:
  class RowSampler;

  void reserve(size_t count);

  const std::shared_ptr<ThreadPool> pool_;
  std::vector<RowSampler> workers_;
};

}  // namespace lepton
