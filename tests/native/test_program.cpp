#include "program.h"

#include <doctest/doctest.h>

#include <atomic>
#include <cmath>
#include <stdexcept>
#include <thread>

#include "samples.h"

namespace lepton {
namespace {

constexpr size_t kHidden = 64, kHeads = 4, kKvHeads = 2, kHeadDim = 24, kInner = 96;
constexpr size_t kVocabulary = 50, kBlocks = 12;

LinearWeights linear(TensorType type, size_t outputs, size_t inputs, uint64_t seed,
                     bool bias = false) {
  return {random_matrix(type, outputs, inputs, seed),
          bias ? random_floats(outputs, seed + 1) : std::vector<float>{}};
}

NormWeights norm(size_t size, uint64_t seed) { return {random_floats(size, seed), 1e-5f}; }

// Two attention layers, the second with a window, norms of queries and keys and norms afterwards;
// a gated layer after each.
std::unique_ptr<Program> build_program(const std::string& isa, int threads,
                                       Planes planes = Planes::kTwo) {
  const TensorType q8 = TensorType::kQ8_0, q4 = TensorType::kQ4_1, bf16 = TensorType::kBF16;
  auto program = std::make_unique<Program>(std::make_shared<ThreadPool>(threads), kHidden, kBlocks,
                                           planes, CacheType::kBFloat16, isa);
  program->set_embedding(random_matrix(q8, kVocabulary, kHidden, 100), 2.0f);
  for (const bool second : {false, true}) {
    std::vector<float> frequencies;
    for (size_t i = 0; i < kHeadDim / 2; ++i)
      frequencies.push_back(std::pow(1000.0f, -static_cast<float>(i) / 12.0f));
    const size_t rope = program->add_rope({frequencies, second, 1.0f});
    const uint64_t seed = second ? 300 : 200;
    const TensorType type = second ? bf16 : q4;
    AttentionStage attention{norm(kHidden, seed),
                             linear(type, kHeads * kHeadDim, kHidden, seed + 10, true),
                             linear(type, kKvHeads * kHeadDim, kHidden, seed + 20, true),
                             linear(q8, kKvHeads * kHeadDim, kHidden, seed + 30),
                             linear(q8, kHidden, kHeads * kHeadDim, seed + 40),
                             kHeads,
                             kKvHeads,
                             kHeadDim,
                             0.2f,
                             rope,
                             second ? size_t{20} : size_t{0},
                             {},
                             {},
                             {}};
    if (second) {
      attention.query_norm = norm(kHeadDim, seed + 50);
      attention.key_norm = norm(kHeadDim, seed + 51);
      attention.post_norm = norm(kHidden, seed + 52);
    }
    program->add_attention(std::move(attention));
    program->add_gated_mlp({norm(kHidden, seed + 60),
                            linear(q4, kInner, kHidden, seed + 61),
                            linear(q4, kInner, kHidden, seed + 62),
                            linear(q8, kHidden, kInner, seed + 63),
                            second,
                            {}});
  }
  program->set_head(norm(kHidden, 400), linear(q8, kVocabulary, kHidden, 401));
  return program;
}

// A step, owning its arrays: sequence s computes positions [begins[s], ends[s]) in blocks 4 s, ….
struct Step {
  std::vector<int32_t> token_ids, positions, row_starts{0}, block_tables, logit_rows;
  size_t width = 4;

  Step& add(size_t sequence, size_t begin, size_t end) {
    for (size_t p = begin; p < end; ++p) {
      token_ids.push_back(static_cast<int32_t>((sequence * 17 + p * 7) % kVocabulary));
      positions.push_back(static_cast<int32_t>(p));
      logit_rows.push_back(static_cast<int32_t>(logit_rows.size()));
    }
    row_starts.push_back(static_cast<int32_t>(token_ids.size()));
    for (size_t i = 0; i < width; ++i)
      block_tables.push_back(static_cast<int32_t>(4 * sequence + (i + sequence) % 4));
    return *this;
  }

  std::vector<float> run(Program& program) const {
    std::vector<float> logits(logit_rows.size() * kVocabulary);
    program.forward({token_ids.data(), positions.data(), token_ids.size(), row_starts.data(),
                     row_starts.size() - 1, block_tables.data(), width, logit_rows.data(),
                     logit_rows.size(), nullptr},
                    logits.data());
    return logits;
  }
};

// Logits of all positions of three sequences of different lengths, each prefilled on its own.
constexpr size_t kLengths[3] = {50, 33, 7};
std::vector<std::vector<float>> prefill_alone(Program& program) {
  std::vector<std::vector<float>> logits;
  for (size_t s = 0; s < 3; ++s) logits.push_back(Step().add(s, 0, kLengths[s]).run(program));
  return logits;
}

}  // namespace

TEST_CASE("logits do not depend on instruction set, threads, batch or chunks") {
  for (const Planes planes : {Planes::kAdaptive, Planes::kTwo}) {
    const auto expected = prefill_alone(*build_program("scalar", 1, planes));
    CHECK(std::all_of(expected[0].begin(), expected[0].end(),
                      [](float v) { return std::isfinite(v); }));
    for (const std::string& isa : supported_isas()) {
      for (const int threads : {1, 3}) {
        CAPTURE(static_cast<int>(planes));
        CAPTURE(isa);
        CAPTURE(threads);
        const auto program = build_program(isa, threads, planes);
        const auto alone = prefill_alone(*program);
        for (size_t s = 0; s < 3; ++s)
          CHECK(differences(alone[s].data(), expected[s].data(), expected[s].size()) == 0);

        // All sequences together, at different paces; the last rows come one by one.
        size_t done[3] = {0, 0, 0};
        for (const size_t pace : {5, 1, 13, 29, 1, 1, 1, 1, 50}) {
          Step step;
          std::vector<float> wanted;
          for (size_t s = 0; s < 3; ++s) {
            const size_t end = std::min(kLengths[s], done[s] + pace + s);
            if (end == done[s]) continue;
            step.add(s, done[s], end);
            wanted.insert(wanted.end(),
                          expected[s].begin() + static_cast<long>(done[s] * kVocabulary),
                          expected[s].begin() + static_cast<long>(end * kVocabulary));
            done[s] = end;
          }
          const std::vector<float> logits = step.run(*program);
          CHECK(differences(logits.data(), wanted.data(), wanted.size()) == 0);
        }
        CHECK((done[0] == kLengths[0] && done[1] == kLengths[1]));
      }
    }
  }
}

TEST_CASE("logits do not depend on which others are wanted") {
  for (const Planes planes : {Planes::kAdaptive, Planes::kTwo}) {
    CAPTURE(static_cast<int>(planes));
    const auto expected = prefill_alone(*build_program("", 2, planes));
    // Rows of three sequences of 20, 33 and 7, in the order in which they are wanted.
    for (const std::vector<int32_t>& wanted : std::vector<std::vector<int32_t>>{
             {19, 52, 59}, {52}, {}, {30, 20, 30}, {59, 58, 3}, {0, 1, 2, 19}}) {
      const auto program = build_program("", 2, planes);
      Step step = Step().add(0, 0, 20).add(1, 0, 33).add(2, 0, 7);
      step.logit_rows = wanted;
      const std::vector<float> logits = step.run(*program);
      for (size_t i = 0; i < wanted.size(); ++i) {
        const auto row = static_cast<size_t>(wanted[i]);
        const size_t sequence = row < 20 ? 0 : row < 53 ? 1 : 2;
        const size_t position = row - (sequence == 0 ? 0 : sequence == 1 ? 20 : 53);
        CHECK(differences(logits.data() + i * kVocabulary,
                          expected[sequence].data() + position * kVocabulary, kVocabulary) == 0);
      }
      // The cache is as if all had been wanted.
      const std::vector<float> rest = Step().add(0, 20, 50).run(*program);
      CHECK(differences(rest.data(), expected[0].data() + 20 * kVocabulary, rest.size()) == 0);
    }
  }
}

TEST_CASE("an inconsistent batch is refused and leaves the cache alone") {
  const auto program = build_program("", 2);
  const Step first = Step().add(0, 0, 20), next = Step().add(0, 20, 21);
  first.run(*program);
  const std::vector<float> expected = next.run(*program);
  const auto refused = [&](auto&& spoil) {
    Step step = Step().add(0, 0, 20).add(1, 3, 9);
    spoil(step);
    CHECK_THROWS_AS(step.run(*program), std::invalid_argument);
  };
  refused([](Step& s) { s.token_ids[3] = -1; });
  refused([](Step& s) { s.token_ids[25] = kVocabulary; });
  refused([](Step& s) { s.positions[0] = -1; });
  refused([](Step& s) { s.positions[7] = 8; });
  refused([](Step& s) { s.positions.back() = 100; });
  refused([](Step& s) { s.row_starts[0] = 1; });
  refused([](Step& s) { s.row_starts[1] = 0; });
  refused([](Step& s) { s.row_starts[1] = 26; });
  refused([](Step& s) { s.row_starts[1] = 1000; });
  refused([](Step& s) { s.row_starts[2] = 25; });
  refused([](Step& s) { s.block_tables[1] = -1; });
  refused([](Step& s) { s.block_tables[4] = kBlocks; });
  refused([](Step& s) { s.block_tables[4] = s.block_tables[0]; });
  refused([](Step& s) { s.logit_rows[0] = 26; });
  refused([](Step& s) { s.logit_rows[5] = -1; });
  refused([](Step& s) { s.width = 1; });
  const std::vector<float> again = next.run(*program);
  CHECK(differences(again.data(), expected.data(), expected.size()) == 0);
}

TEST_CASE("stages of wrong shapes are refused") {
  Program program(std::make_shared<ThreadPool>(1), kHidden, kBlocks, Planes::kAdaptive,
                  CacheType::kBFloat16, "");
  const TensorType type = TensorType::kF32;
  CHECK_THROWS_AS(program.set_embedding(random_matrix(type, 10, 32, 1), 1.0f),
                  std::invalid_argument);
  CHECK_THROWS_AS(program.set_head(norm(32, 1), linear(type, 10, kHidden, 1)),
                  std::invalid_argument);
  CHECK_THROWS_AS(program.set_head(norm(kHidden, 1), linear(type, 10, 32, 1)),
                  std::invalid_argument);
  CHECK_THROWS_AS(program.add_gated_mlp({norm(kHidden, 1),
                                         linear(type, 96, kHidden, 1),
                                         linear(type, 95, kHidden, 1),
                                         linear(type, kHidden, 96, 1),
                                         false,
                                         {}}),
                  std::invalid_argument);
  CHECK_THROWS_AS(program.add_rope({{}, false, 1.0f}), std::invalid_argument);
  program.set_head(norm(kHidden, 1), linear(type, 10, kHidden, 1));
  CHECK_THROWS_AS(program.set_head(norm(kHidden, 1), linear(type, 10, kHidden, 1)),
                  std::invalid_argument);
  CHECK_THROWS_AS(Step().add(0, 0, 1).run(program), std::invalid_argument);
}

TEST_CASE("of two threads that run one program at once, one is turned away or both are right") {
  const auto program = build_program("", 2);
  const Step step = Step().add(0, 0, 40);
  const std::vector<float> expected = step.run(*program);
  std::atomic<int> faults = 0, runs = 0;
  const auto call = [&] {
    for (int i = 0; i < 20; ++i) {
      try {
        const std::vector<float> logits = step.run(*program);
        faults += differences(logits.data(), expected.data(), expected.size()) != 0;
        ++runs;
      } catch (const std::logic_error&) {
      }
    }
  };
  std::thread other(call);
  call();
  other.join();
  CHECK(faults == 0);
  CHECK(runs > 0);
}

}  // namespace lepton
