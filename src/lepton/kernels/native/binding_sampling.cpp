// Sampling in lepton.kernels._native.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <tuple>

#include "binding_sampling.h"
#include "check.h"
#include "dispatch.h"
#include "philox.h"
#include "sampling.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace lepton {
namespace {

using FloatRows = nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using FloatRow = nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Ids = nb::ndarray<const int32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using States = std::vector<const SamplingState*>;

std::vector<int32_t> sample(Sampler& sampler, FloatRows logits, const std::vector<size_t>& rows,
                            const States& states, const std::vector<size_t>& positions) {
  check(rows.size() == states.size() && rows.size() == positions.size(),
        "rows, states and positions differ in length");
  check(logits.shape(1) > 0, "the rows of logits are empty");
  std::vector<SampledRow> sampled;
  sampled.reserve(rows.size());
  for (size_t i = 0; i < rows.size(); ++i) {
    check(rows[i] < logits.shape(0), "a row is out of range");
    sampled.push_back({logits.data() + rows[i] * logits.shape(1), nullptr, logits.shape(1),
                       states[i], positions[i]});
  }
  const nb::gil_scoped_release release;
  return sampler.sample(sampled);
}

std::vector<int32_t> sample_candidates(Sampler& sampler, FloatRow logits, Ids ids,
                                       const std::vector<size_t>& starts, const States& states,
                                       const std::vector<size_t>& positions) {
  check(starts.size() == states.size() + 1 && states.size() == positions.size(),
        "starts, states and positions differ in length");
  check(logits.size() == ids.size() && starts.front() == 0 && starts.back() == ids.size(),
        "starts, ids and logits do not agree");
  std::vector<SampledRow> sampled;
  sampled.reserve(states.size());
  for (size_t i = 0; i < states.size(); ++i) {
    check(starts[i] < starts[i + 1], "a row has no candidates");
    const int32_t* first = ids.data() + starts[i];
    const size_t count = starts[i + 1] - starts[i];
    check(*first >= 0 && std::is_sorted(first, first + count, std::less_equal<int32_t>()),
          "candidates do not ascend");
    sampled.push_back({logits.data() + starts[i], first, count, states[i], positions[i]});
  }
  const nb::gil_scoped_release release;
  return sampler.sample(sampled);
}

using LogprobTuple = std::tuple<double, std::vector<int32_t>, std::vector<double>>;

std::vector<LogprobTuple> logprobs(Sampler& sampler, FloatRows logits,
                                   const std::vector<size_t>& rows,
                                   const std::vector<int32_t>& token_ids,
                                   const std::vector<size_t>& num_top) {
  check(rows.size() == token_ids.size() && rows.size() == num_top.size(),
        "rows, token_ids and num_top differ in length");
  std::vector<LogprobRow> wanted;
  wanted.reserve(rows.size());
  for (size_t i = 0; i < rows.size(); ++i) {
    check(rows[i] < logits.shape(0) && token_ids[i] >= 0 &&
              static_cast<size_t>(token_ids[i]) < logits.shape(1),
          "a row or token is out of range");
    wanted.push_back(
        {logits.data() + rows[i] * logits.shape(1), logits.shape(1), token_ids[i], num_top[i]});
  }
  std::vector<Logprobs> found;
  {
    const nb::gil_scoped_release release;
    found = sampler.logprobs(wanted);
  }
  std::vector<LogprobTuple> result;
  result.reserve(found.size());
  for (Logprobs& each : found)
    result.emplace_back(each.chosen, std::move(each.top_ids), std::move(each.top));
  return result;
}

}  // namespace

void bind_sampling(nb::module_& m) {
  nb::class_<SamplingState>(m, "SamplingState",
                            "How the tokens of one sequence are chosen, and what it holds.")
      .def(
          "__init__",
          [](SamplingState* self, double temperature, size_t top_k, double top_p, double min_p,
             double repetition_penalty, double presence_penalty, double frequency_penalty,
             uint64_t seed, uint64_t index, size_t num_prompt_tokens,
             std::vector<int32_t> stop_token_ids, size_t min_tokens) {
            new (self) SamplingState({temperature, top_k, top_p, min_p, repetition_penalty,
                                      presence_penalty, frequency_penalty, seed, index,
                                      num_prompt_tokens, std::move(stop_token_ids), min_tokens});
          },
          nb::kw_only(), "temperature"_a, "top_k"_a, "top_p"_a, "min_p"_a, "repetition_penalty"_a,
          "presence_penalty"_a, "frequency_penalty"_a, "seed"_a, "index"_a, "num_prompt_tokens"_a,
          "stop_token_ids"_a, "min_tokens"_a)
      .def("observe", &SamplingState::observe, "token_ids"_a,
           "Takes note of the sequence's next tokens, prompt first; penalties need them.")
      .def_prop_ro("num_observed", &SamplingState::num_observed)
      .def("num_deciding", &SamplingState::num_deciding, "position"_a,
           "How many of the largest logits decide the token at a position; 0: any may.");

  m.attr("NOT_FINITE") = kNotFinite;
  m.attr("ALL_BARRED") = kAllBarred;
  nb::class_<Sampler>(m, "Sampler", "Samples all rows of a step in parallel.")
      .def(
          "__init__",
          [](Sampler* self, std::shared_ptr<ThreadPool> pool, const std::string& isa) {
            new (self) Sampler(std::move(pool), kernel_table(isa));
          },
          "pool"_a, "isa"_a = "")
      .def("sample", &sample, "logits"_a.noconvert(), "rows"_a, "states"_a, "positions"_a,
           "A token per row of logits [rows, vocabulary], or NOT_FINITE or ALL_BARRED.")
      .def("sample_candidates", &sample_candidates, "logits"_a.noconvert(), "ids"_a.noconvert(),
           "starts"_a, "states"_a, "positions"_a,
           "The same from candidates starts[i] to starts[i + 1], at least the deciding ones.")
      .def("logprobs", &logprobs, "logits"_a.noconvert(), "rows"_a, "token_ids"_a, "num_top"_a,
           "Of each row: the token's log probability (NaN: not finite), the most likely ids and "
           "theirs.");
  m.def(
      "uniform",
      [](uint64_t seed, uint64_t index, uint64_t position) {
        return uniform(seed, index, position);
      },
      "seed"_a, "index"_a, "position"_a, "The random number in [0, 1) that draws one token.");
}

}  // namespace lepton
