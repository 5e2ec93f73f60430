#include "sampling.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "half.h"
#include "philox.h"

namespace lepton {

namespace {

constexpr float kLowest = std::numeric_limits<float>::lowest();
constexpr float kInfinity = std::numeric_limits<float>::infinity();
// Weights are 0 or at least this.
constexpr float kLeast = std::numeric_limits<float>::min();

// The nucleus is cut among so many weights by sorting them.
constexpr size_t kFew = 128;

float penalized(float logit, const SamplingState::Seen& seen, const SamplingSettings& settings) {
  const auto repetition = static_cast<float>(settings.repetition_penalty);
  if (repetition != 1.0f) logit = logit > 0 ? logit / repetition : logit * repetition;
  if (seen.generated > 0)
    logit -=
        static_cast<float>(settings.presence_penalty + settings.frequency_penalty * seen.generated);
  return std::clamp(logit, kLowest, -kLowest);
}

// Where the running sum of the weights of at least `limit` passes the target; the last of them if
// it never does.
size_t place_of_sum(const float* weights, size_t count, float limit, double target) {
  double sum = 0.0;
  size_t last = 0;
  for (size_t i = 0; i < count; ++i) {
    if (weights[i] < limit) continue;
    last = i;
    sum += static_cast<double>(weights[i]);
    if (sum > target) break;
  }
  return last;
}

// Sorts places by their values, the lower place first among equals.
void sort_largest_first(const float* values, int32_t* places, size_t count) {
  std::sort(places, places + count, [values](int32_t a, int32_t b) {
    return values[a] != values[b] ? values[a] > values[b] : a < b;
  });
}

// Removes places in place; returns how many are left.
template <class Test>
size_t remove_places(int32_t* places, size_t count, const Test& unwanted) {
  return static_cast<size_t>(std::remove_if(places, places + count, unwanted) - places);
}

}  // namespace

void SamplingState::observe(const std::vector<int32_t>& tokens) {
  for (const int32_t token : tokens) {
    const auto [entry, is_new] = place_of_token_.try_emplace(token, seen_.size());
    if (is_new) seen_.push_back({token, 0});
    if (num_observed_++ >= settings_.num_prompt_tokens) ++seen_[entry->second].generated;
  }
}

size_t SamplingState::num_deciding(size_t position) const {
  const bool greedy = settings_.temperature == 0;
  if (settings_.penalized() || (!greedy && settings_.top_k == 0)) return 0;
  return (greedy ? 1 : settings_.top_k) +
         (settings_.bars_stops(position) ? settings_.stop_token_ids.size() : 0);
}

// Scratch memory of one worker, and the steps from a row of logits to a token.
class Sampler::RowSampler {
 public:
  explicit RowSampler(const SamplingKernels& kernels) : kernels_(kernels) {}

  // So that nothing is allocated in the workers. What is never used takes no memory.
  void reserve(size_t count) {
    if (count <= capacity_) return;
    const size_t stretches = (count + kStretch - 1) / kStretch;
    maxima_.reserve(stretches * 16);
    sums_.reserve(stretches);
    values_ = std::make_unique_for_overwrite<float[]>(count);
    ranked_ = std::make_unique_for_overwrite<float[]>(std::max(count, stretches * 16));
    places_ = std::make_unique_for_overwrite<int32_t[]>(count);
    kept_ = std::make_unique_for_overwrite<int32_t[]>(count);
    capacity_ = count;
  }

  int32_t choose(const SampledRow& row) {
    if (!scan(row.logits, row.count)) return kNotFinite;
    const float* logits = adjusted(row);
    const float peak = *std::max_element(maxima_.begin(), maxima_.end());
    if (peak == -kInfinity) return kAllBarred;
    const SamplingSettings& settings = row.state->settings();
    const size_t place = settings.temperature == 0
                             ? first_place(logits, row.count, peak)
                             : draw(logits, row.count, peak, settings, row.position);
    return row.ids == nullptr ? static_cast<int32_t>(place) : row.ids[place];
  }

  void describe(const LogprobRow& row, Logprobs& result) {
    result.chosen = std::numeric_limits<double>::quiet_NaN();
    if (!scan(row.logits, row.count)) return;
    const float peak = *std::max_element(maxima_.begin(), maxima_.end());
    const double normalizer =
        static_cast<double>(peak) + std::log(weigh(row.logits, row.count, peak, 1.0f));
    result.chosen = static_cast<double>(row.logits[row.token]) - normalizer;
    if (row.num_top == 0) return;
    const size_t count = keep_largest(row.logits, row.count, row.num_top);
    sort_largest_first(row.logits, places_.get(), count);
    for (size_t i = 0; i < result.top.size(); ++i) {
      result.top_ids[i] = places_[i];
      result.top[i] = static_cast<double>(row.logits[places_[i]]) - normalizer;
    }
  }

 private:
  bool scan(const float* logits, size_t count) {
    maxima_.resize((count + kStretch - 1) / kStretch * 16);
    return kernels_.scan_logits(logits, count, maxima_.data());
  }

  // The logits, or a copy of them in values_ with penalties and barred tokens.
  const float* adjusted(const SampledRow& row) {
    const SamplingSettings& settings = row.state->settings();
    const bool barring = settings.bars_stops(row.position) && !settings.stop_token_ids.empty();
    const bool penalizing = settings.penalized() && !row.state->seen().empty();
    if (!barring && !penalizing) return row.logits;
    std::copy_n(row.logits, row.count, values_.get());
    if (penalizing)
      for (const SamplingState::Seen& seen : row.state->seen())
        if (float* value = find(row, seen.token)) *value = penalized(*value, seen, settings);
    if (barring)
      for (const int32_t token : settings.stop_token_ids)
        if (float* value = find(row, token)) *value = -kInfinity;
    scan(values_.get(), row.count);
    return values_.get();
  }

  // A token's place in values_; null where the row has no such token.
  float* find(const SampledRow& row, int32_t token) {
    if (row.ids == nullptr)
      return static_cast<size_t>(token) < row.count ? &values_[static_cast<size_t>(token)]
                                                    : nullptr;
    const int32_t* end = row.ids + row.count;
    const int32_t* id = std::lower_bound(row.ids, end, token);
    return id != end && *id == token ? &values_[static_cast<size_t>(id - row.ids)] : nullptr;
  }

  size_t first_place(const float* logits, size_t count, float peak) const {
    const auto maximum = std::find(maxima_.begin(), maxima_.end(), peak);
    const auto stretch = static_cast<size_t>(maximum - maxima_.begin()) / 16;
    return static_cast<size_t>(std::find(logits + stretch * kStretch, logits + count, peak) -
                               logits);
  }

  size_t draw(const float* logits, size_t count, float peak, const SamplingSettings& settings,
              size_t position) {
    count_ = count;
    listed_ = settings.top_k > 0;
    if (listed_) {
      count_ = keep_largest(logits, count, settings.top_k);
      for (size_t i = 0; i < count_; ++i) values_[i] = logits[places_[i]];
      logits = values_.get();
    }
    const auto factor = static_cast<float>(1.0 / std::max(settings.temperature, 1e-6));
    double total = weigh(logits, count_, peak, factor);
    float limit = std::max(static_cast<float>(settings.min_p), kLeast);
    if (settings.top_p < 1) limit = cut_nucleus(settings.top_p * total, limit);
    if (settings.top_p < 1 || settings.min_p > 0) total = add_up(limit).sum;
    const double drawn = uniform(settings.seed, settings.index, position);
    const size_t place = place_in_stretches(drawn * total, limit);
    return listed_ ? static_cast<size_t>(places_[place]) : place;
  }

  // Fills places_ with the k largest logits and all that equal the last of them, ascending; returns
  // how many. Call scan() first. Barred logits are left out.
  size_t keep_largest(const float* logits, size_t count, size_t k) {
    // As many maxima of distinct logits are at least the k-th largest maximum.
    float limit = kLowest;
    if (k <= maxima_.size()) {
      std::copy(maxima_.begin(), maxima_.end(), ranked_.get());
      limit = std::max(limit, rank(k, maxima_.size()));
    }
    const size_t found = kernels_.collect(logits, count, limit, places_.get());
    if (found <= k) return found;
    for (size_t i = 0; i < found; ++i) ranked_[i] = logits[places_[i]];
    limit = rank(k, found);
    return remove_places(places_.get(), found,
                         [&](int32_t place) { return logits[place] < limit; });
  }

  // The k-th largest of the first `count` in ranked_.
  float rank(size_t k, size_t count) {
    float* place = ranked_.get() + k - 1;
    std::nth_element(ranked_.get(), place, ranked_.get() + count, std::greater<float>());
    return *place;
  }

  // Weights e^((logit - peak) · factor) to values_, their sums by stretch to sums_; returns the
  // total.
  double weigh(const float* logits, size_t count, float peak, float factor) {
    double total = 0.0;
    sums_.clear();
    for (size_t begin = 0; begin < count; begin += kStretch) {
      const size_t length = std::min(kStretch, count - begin);
      sums_.push_back(static_cast<double>(
          kernels_.weigh(logits + begin, length, peak, factor, values_.get() + begin)));
      total += sums_.back();
    }
    return total;
  }

  struct Total {
    double sum;
    size_t number;
  };

  // Of the weights of at least `limit`; fills sums_.
  Total add_up(float limit) {
    Total total{0.0, 0};
    sums_.clear();
    for (size_t begin = 0; begin < count_; begin += kStretch) {
      sums_.push_back(static_cast<double>(kernels_.sum_at_least(
          &values_[begin], std::min(kStretch, count_ - begin), limit, &total.number)));
      total.sum += sums_.back();
    }
    return total;
  }

  // The smallest weight in the nucleus: the fewest largest weights whose sum is `wanted`, the lower
  // place first among equals, none below `lowest`. Those that equal it but come too late are set
  // to 0.
  float cut_nucleus(double wanted, float lowest) {
    wanted = std::max(wanted, std::numeric_limits<double>::min());
    keep_likely(wanted, lowest);
    // Bisect on the bits, which are ordered as the weights: from `low` on they suffice, from `high`
    // on they do not.
    uint32_t low = float_to_bits(lowest), high = float_to_bits(2.0f);
    Total from_low = add_up(lowest), from_high{0.0, 0};
    if (from_low.sum < wanted) return lowest;
    while (from_low.number - from_high.number > kFew && high - low > 1) {
      const uint32_t middle = low + (high - low) / 2;
      const Total total = add_up(bits_to_float(middle));
      (total.sum < wanted ? high : low) = middle;
      (total.sum < wanted ? from_high : from_low) = total;
    }
    size_t found = kernels_.collect(values_.get(), count_, bits_to_float(low), kept_.get());
    found = remove_places(kept_.get(), found,
                          [&](int32_t place) { return values_[place] >= bits_to_float(high); });
    sort_largest_first(values_.get(), kept_.get(), found);
    size_t last = 0;
    double sum = from_high.sum;
    while (last + 1 < found && (sum += static_cast<double>(values_[kept_[last]])) < wanted) ++last;
    const float limit = values_[kept_[last]];
    for (size_t i = last + 1; i < found && values_[kept_[i]] == limit; ++i) values_[kept_[i]] = 0;
    return limit;
  }

  // Lists the likely tokens alone if they make up `wanted`, as they mostly do.
  void keep_likely(double wanted, float lowest) {
    const float limit = std::max(0x1p-8f, lowest);
    if (limit > lowest && add_up(limit).sum < wanted) return;
    count_ = kernels_.collect(values_.get(), count_, limit, kept_.get());
    for (size_t i = 0; i < count_; ++i) {
      values_[i] = values_[kept_[i]];
      places_[i] = listed_ ? places_[kept_[i]] : kept_[i];
    }
    listed_ = true;
  }

  size_t place_in_stretches(double target, float limit) const {
    size_t stretch = 0;
    while (stretch + 1 < sums_.size() && target >= sums_[stretch]) target -= sums_[stretch++];
    while (stretch > 0 && sums_[stretch] == 0.0) --stretch;  // Rounding took the target past all.
    const size_t begin = stretch * kStretch;
    return begin + place_of_sum(&values_[begin], std::min(kStretch, count_ - begin), limit, target);
  }

  const SamplingKernels& kernels_;
  size_t capacity_ = 0;
  std::vector<float> maxima_;          // see scan_logits
  std::vector<double> sums_;           // of the weights in each stretch
  std::unique_ptr<float[]> values_;    // adjusted logits, then weights [count_]
  std::unique_ptr<int32_t[]> places_;  // of the weights in the row, when listed_
  std::unique_ptr<float[]> ranked_;    // logits that rank() reorders
  std::unique_ptr<int32_t[]> kept_;    // places in values_
  size_t count_ = 0;
  bool listed_ = false;
};

Sampler::Sampler(std::shared_ptr<ThreadPool> pool, const KernelTable& kernels)
    : pool_(std::move(pool)) {
  for (int i = 0; i < pool_->threads(); ++i) workers_.emplace_back(kernels.sampling);
}

Sampler::~Sampler() = default;

void Sampler::reserve(size_t count) {
  for (RowSampler& worker : workers_) worker.reserve(count);
}

std::vector<int32_t> Sampler::sample(const std::vector<SampledRow>& rows) {
  size_t longest = 0;
  for (const SampledRow& row : rows) longest = std::max(longest, row.count);
  reserve(longest);
  std::vector<int32_t> tokens(rows.size());
  pool_->parallel_for(rows.size(), 1, [&](size_t begin, size_t end, int worker) {
    for (size_t i = begin; i < end; ++i)
      tokens[i] = workers_[static_cast<size_t>(worker)].choose(rows[i]);
  });
  return tokens;
}

std::vector<Logprobs> Sampler::logprobs(const std::vector<LogprobRow>& rows) {
  std::vector<Logprobs> results(rows.size());
  size_t longest = 0;
  for (size_t i = 0; i < rows.size(); ++i) {
    longest = std::max(longest, rows[i].count);
    results[i].top_ids.resize(std::min(rows[i].num_top, rows[i].count));
    results[i].top.resize(results[i].top_ids.size());
  }
  reserve(longest);
  pool_->parallel_for(rows.size(), 1, [&](size_t begin, size_t end, int worker) {
    for (size_t i = begin; i < end; ++i)
      workers_[static_cast<size_t>(worker)].describe(rows[i], results[i]);
  });
  return results;
}

}  // namespace lepton
