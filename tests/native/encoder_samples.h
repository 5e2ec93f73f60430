// Small encoders of random weights, and their states.
#pragma once

#include <doctest/doctest.h>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "encoder.h"
#include "samples.h"

namespace lepton {

constexpr DenseType kDenseTypes[] = {DenseType::kFloat32, DenseType::kBFloat16, DenseType::kInt8,
                                     DenseType::kInt16};

// Calls check(isa, type) for each instruction set and each type that it can multiply.
template <class Check>
void for_every_type(const Check& check) {
  for (const std::string& isa : supported_isas())
    for (const DenseType type : kDenseTypes) {
      const EncoderKernels& kernels = encoder_kernels(isa, type == DenseType::kBFloat16);
      if (kernels.multiply[static_cast<size_t>(type)] == nullptr) continue;
      CAPTURE(isa);
      CAPTURE(static_cast<int>(type));
      check(isa, type);
    }
}

inline DenseLinear random_linear(DenseType type, size_t outputs, size_t inputs, uint64_t seed) {
  const auto matrix = std::make_shared<DenseMatrix>(type, outputs, inputs);
  std::vector<float> weights = random_floats(outputs * inputs, seed);
  for (float& weight : weights) weight *= 0.3f;
  matrix->pack_rows(0, weights.data(), outputs);
  return {matrix, random_floats(outputs, seed + 1)};
}

inline EncoderNorm random_norm(size_t size, uint64_t seed) {
  return {random_floats(size, seed), random_floats(size, seed + 1), 1e-5f};
}

inline EncoderEmbedding random_embedding(size_t vocabulary, size_t hidden) {
  const auto table = std::make_shared<VectorTable>(DenseType::kFloat32, vocabulary, hidden);
  table->pack_rows(0, random_floats(vocabulary * hidden, 1).data(), vocabulary);
  EncoderEmbedding embedding{};
  embedding.table = table;
  embedding.scale = 1.0f;
  return embedding;
}

// Two layers whose sizes fill neither vectors nor panels, on `threads`.
inline std::unique_ptr<EncoderProgram> small_program(const std::string& isa, DenseType type,
                                                     int threads) {
  constexpr size_t kHidden = 36, kInner = 50, kHeads = 3, kHeadDim = 12, kVocabulary = 40;
  auto program =
      std::make_unique<EncoderProgram>(std::make_shared<ThreadPool>(threads), kHidden, type, isa);
  EncoderEmbedding embedding = random_embedding(kVocabulary, kHidden);
  embedding.positions.values = random_floats(200 * kHidden, 2);
  embedding.norm = random_norm(kHidden, 3);
  program->set_embedding(std::move(embedding));
  for (uint64_t layer = 0; layer < 2; ++layer) {
    EncoderAttentionStage attention{};
    attention.joined = random_linear(type, 3 * kHeads * kHeadDim, kHidden, 10 + layer);
    attention.output = random_linear(type, kHidden, kHeads * kHeadDim, 20 + layer);
    attention.num_heads = attention.num_kv_heads = kHeads;
    attention.head_dim = kHeadDim;
    attention.scale = 0.3f;
    attention.residual_norm = random_norm(kHidden, 30 + layer);
    program->add_attention(std::move(attention));
    EncoderMlpStage mlp{};
    mlp.up = random_linear(type, kInner, kHidden, 40 + layer);
    mlp.down = random_linear(type, kHidden, kInner, 50 + layer);
    mlp.activation = Activation::kGelu;
    mlp.residual_norm = random_norm(kHidden, 60 + layer);
    program->add_mlp(std::move(mlp));
  }
  return program;
}

// Texts of these lengths, end to end.
class SampleTexts {
 public:
  explicit SampleTexts(const std::vector<int32_t>& lengths) {
    for (const int32_t length : lengths) {
      for (int32_t i = 0; i < length; ++i) tokens_.push_back((i * 7 + length) % 40);
      starts_.push_back(static_cast<int32_t>(tokens_.size()));
    }
  }
  TextBatch batch() const {
    return {tokens_.data(), tokens_.size(), starts_.data(), starts_.size() - 1, nullptr, nullptr};
  }

 private:
  std::vector<int32_t> tokens_, starts_ = {0};
};

// States [rows, hidden] of texts of these lengths, or [texts, hidden] where they are pooled.
inline std::vector<float> states_of(EncoderProgram& program, const std::vector<int32_t>& lengths,
                                    TextPooling pooling) {
  const SampleTexts texts(lengths);
  const TextBatch batch = texts.batch();
  const size_t rows = pooling == TextPooling::kNone ? batch.rows : batch.texts;
  std::vector<float> out(rows * program.hidden());
  program.forward(batch, pooling, out.data());
  return out;
}

// Vectors [texts, hidden] of texts of these lengths.
inline std::vector<float> vectors_of(EncoderProgram& program, const std::vector<int32_t>& lengths) {
  return states_of(program, lengths, TextPooling::kMean);
}

}  // namespace lepton
