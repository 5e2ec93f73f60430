// Positions of encoders: tables that grow, and programs whose layers turn by two ropes.
#include <doctest/doctest.h>

#include <cmath>

#include "encoder_rope.h"
#include "encoder_samples.h"

namespace lepton {
namespace {

// Four layers with a window or without, each kind with a rope of its own, and no other positions.
std::unique_ptr<EncoderProgram> turning_program(const std::string& isa, DenseType type,
                                                int threads) {
  constexpr size_t kHidden = 36, kInner = 48, kHeads = 4, kKvHeads = 2, kHeadDim = 12;
  constexpr size_t kVocabulary = 40;
  const EncoderRope global{{1.0f, 0.5f, 0.2f, 0.1f, 0.03f, 0.001f}, false, 1.0f};
  const EncoderRope local{{1.0f, 0.4f, 0.1f, 0.05f, 0.01f, 0.005f}, true, 1.1f};
  auto program =
      std::make_unique<EncoderProgram>(std::make_shared<ThreadPool>(threads), kHidden, type, isa);
  program->set_embedding(random_embedding(kVocabulary, kHidden));
  for (uint64_t layer = 0; layer < 4; ++layer) {
    const bool wide = layer % 2 == 0;
    EncoderAttentionStage attention{};
    attention.norm = random_norm(kHidden, 30 + layer);
    attention.joined =
        random_linear(type, (kHeads + 2 * kKvHeads) * kHeadDim, kHidden, 10 + 2 * layer);
    attention.output = random_linear(type, kHidden, kHeads * kHeadDim, 20 + 2 * layer);
    attention.num_heads = kHeads;
    attention.num_kv_heads = kKvHeads;
    attention.head_dim = kHeadDim;
    attention.scale = 0.3f;
    attention.window = wide ? 0 : 9;
    attention.rope = wide ? global : local;
    program->add_attention(std::move(attention));
    EncoderMlpStage mlp{};
    mlp.norm = random_norm(kHidden, 60 + layer);
    mlp.up = random_linear(type, 2 * kInner, kHidden, 40 + 2 * layer);
    mlp.down = random_linear(type, kHidden, kInner, 50 + 2 * layer);
    mlp.activation = Activation::kGelu;
    mlp.gated = true;
    program->add_mlp(std::move(mlp));
  }
  program->set_final_norm(random_norm(kHidden, 70));
  return program;
}

}  // namespace

TEST_CASE("a table holds the cosines and sines of its rope, however it grew") {
  const EncoderRope rope{{1.0f, 0.31f, 0.0123f}, false, 1.25f};
  ThreadPool pool(3);
  EncoderRopeTable table(rope);
  for (const size_t positions : {5, 3, 6, 700}) table.grow(positions, pool);
  for (size_t position = 0; position < 700; ++position)
    for (size_t i = 0; i < 3; ++i) {
      const float angle = static_cast<float>(position) * rope.inverse_frequencies[i];
      CHECK(table.cosines(position)[i] == static_cast<float>(std::cos(double{angle})) * 1.25f);
      CHECK(table.sines(position)[i] == static_cast<float>(std::sin(double{angle})) * 1.25f);
    }
}

TEST_CASE("a table serves ropes of the same angles alone") {
  const EncoderRope rope{{1.0f, 0.5f}, false, 1.0f};
  const EncoderRopeTable table(rope);
  CHECK(table.serves(rope));
  CHECK(table.serves({{1.0f, 0.5f}, true, 1.0f}));
  CHECK_FALSE(table.serves({{1.0f, 0.25f}, false, 1.0f}));
  CHECK_FALSE(table.serves({{1.0f}, false, 1.0f}));
  CHECK_FALSE(table.serves({{1.0f, 0.5f}, false, 1.5f}));
}

TEST_CASE("states of a program with ropes depend on no other text") {
  // As many as give each of three threads groups of its own.
  const std::vector<int32_t> lengths = {130, 100, 96, 40, 90, 100, 60, 110, 1, 17, 80, 95};
  for_every_type([&](const std::string& isa, DenseType type) {
    const auto one = turning_program(isa, type, 1), three = turning_program(isa, type, 3);
    const std::vector<float> expected = states_of(*one, lengths, TextPooling::kNone);
    const std::vector<float> shared = states_of(*three, lengths, TextPooling::kNone);
    CHECK(differences(expected.data(), shared.data(), expected.size()) == 0);
    size_t place = 0;
    for (const int32_t length : lengths) {
      const std::vector<float> alone = states_of(*three, {length}, TextPooling::kNone);
      CHECK(differences(&expected[place], alone.data(), alone.size()) == 0);
      place += alone.size();
    }
  });
}

TEST_CASE("a text longer than all before it has the states of a new program") {
  for_every_type([&](const std::string& isa, DenseType type) {
    for (const int threads : {1, 3}) {
      const auto used = turning_program(isa, type, threads);
      for (const int32_t length : {3, 40, 39, 300, 5}) {
        const std::vector<float> found = states_of(*used, {length}, TextPooling::kNone);
        const auto fresh = turning_program(isa, type, threads);
        const std::vector<float> expected = states_of(*fresh, {length}, TextPooling::kNone);
        CHECK(differences(expected.data(), found.data(), expected.size()) == 0);
      }
    }
  });
}

}  // namespace lepton
