// Kernels of encoders: products, quantization and activations against plain arithmetic, and whole
// programs, whose texts must not depend on what goes with them.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "encoder_samples.h"

namespace lepton {
namespace {

// Calls check(kernels) for each instruction set, without and with the instructions for bf16.
template <class Check>
void for_every_table(const Check& check) {
  for (const std::string& isa : supported_isas())
    for (const bool half : {false, true}) {
      CAPTURE(isa);
      CAPTURE(half);
      check(encoder_kernels(isa, half));
    }
}

// The whole number that a byte of quantize() stands for.
int state_of(const EncoderKernels& kernels, uint8_t byte) {
  return kernels.unsigned_states ? byte - kStateOffset : static_cast<int8_t>(byte);
}

// Products with all of a matrix; input, rows and output are left to the caller.
DenseProduct product_with(const DenseMatrix& matrix, const std::vector<float>& bias) {
  DenseProduct product{};
  product.steps = matrix.steps();
  product.panels = matrix.panel(0);
  product.panel_bytes = matrix.panel_bytes();
  product.num_panels = matrix.panels();
  product.bias = bias.data();
  if (has_scales(matrix.type())) {
    product.scales = matrix.scales();
    product.sums = matrix.sums();
  }
  if (matrix.type() == DenseType::kInt8) product.starts = matrix.starts();
  return product;
}

}  // namespace

TEST_CASE("products of encoders are those of plain arithmetic, and rows do not meet") {
  for_every_type([](const std::string& isa, DenseType type) {
    if (type == DenseType::kBFloat16) return;  // The program's test has it; hardware rounds.
    const EncoderKernels& kernels = encoder_kernels(isa, false);
    constexpr size_t kOutputs = 40, kInputs = 52, kRows = 29, kPadded = 64;
    DenseLinear linear = random_linear(type, kOutputs, kInputs, 5);
    const DenseMatrix& matrix = *linear.matrix;
    linear.bias.resize(matrix.panels() * 16);
    const std::vector<float> x = random_floats(kRows * kPadded, 6);
    const size_t stride = kPadded * 4 / inputs_per_step(type);
    AlignedBuffer operand(kRows * stride);
    std::vector<QuantizedRow> quantized(kRows);
    std::vector<double> exact(kRows * kPadded);
    for (size_t r = 0; r < kRows; ++r) {
      std::vector<float> row(kPadded, 0.0f);
      std::copy_n(x.begin() + static_cast<long>(r * kPadded), kInputs, row.begin());
      uint8_t* target = operand.data() + r * stride;
      if (type == DenseType::kFloat32) {
        std::memcpy(target, row.data(), stride);
        for (size_t c = 0; c < kInputs; ++c) exact[r * kPadded + c] = row[c];
        continue;
      }
      auto* words = reinterpret_cast<int16_t*>(target);
      quantized[r] = type == DenseType::kInt8 ? kernels.quantize(row.data(), kInputs, target)
                                              : kernels.quantize_words(row.data(), kInputs, words);
      for (size_t c = 0; c < kInputs; ++c) {
        const int whole = type == DenseType::kInt16 ? words[c] : state_of(kernels, target[c]);
        exact[r * kPadded + c] = double{quantized[r].scale} * whole + quantized[r].middle;
        CHECK(std::abs(exact[r * kPadded + c] - row[c]) <= 0.51 * quantized[r].scale);
      }
    }
    std::vector<float> weights = random_floats(kOutputs * kInputs, 5), out(kRows * kPadded);
    DenseProduct product = product_with(matrix, linear.bias);
    product.input_stride = stride;
    product.output_stride = kPadded * sizeof(float);
    const auto run = [&](size_t first, size_t rows, float* to) {
      product.input = operand.data() + first * stride;
      product.quantized = quantized.data() + first;
      product.rows = rows;
      product.output = reinterpret_cast<uint8_t*>(to);
      kernels.multiply[static_cast<size_t>(type)](product);
    };
    run(0, kRows, out.data());
    for (size_t r = 0; r < kRows; ++r) {
      std::vector<float> alone(kPadded);
      run(r, 1, alone.data());
      CHECK(differences(alone.data(), &out[r * kPadded], kOutputs) == 0);
      for (size_t o = 0; o < kOutputs; ++o) {
        double sum = linear.bias[o], rounding = 1e-5;
        for (size_t c = 0; c < kInputs; ++c) {
          sum += exact[r * kPadded + c] * 0.3f * weights[o * kInputs + c];
          const double step = type == DenseType::kInt8    ? 0.3 / 254
                              : type == DenseType::kInt16 ? 0.3 / 10000
                                                          : 0.0;
          rounding += std::abs(exact[r * kPadded + c]) * step;
        }
        CHECK(std::abs(out[r * kPadded + o] - sum) <= rounding);
      }
    }
  });
}

TEST_CASE("no sum of products of words leaves 32 bits") {
  // Rows that are as long as they may be and point the same way as the weights.
  constexpr size_t kInputs = 4096;
  const auto flat = [](size_t) { return 1.0f; };
  const auto steep = [](size_t c) { return c == 7 ? 1.0f : 1e-3f; };
  const auto waving = [](size_t c) { return std::sin(static_cast<float>(c)); };
  for_every_table([&](const EncoderKernels& kernels) {
    const auto check = [&](const auto& shape) {
      std::vector<float> x(kInputs);
      double expected = 0.0;
      for (size_t c = 0; c < kInputs; ++c) {
        x[c] = shape(c);
        expected += double{x[c]} * x[c];
      }
      DenseMatrix matrix(DenseType::kInt16, 1, kInputs);
      matrix.pack_rows(0, x.data(), 1);
      std::vector<int16_t> words(kInputs);
      const QuantizedRow quantized = kernels.quantize_words(x.data(), kInputs, words.data());
      const std::vector<float> bias(16);
      float out[16];
      DenseProduct product = product_with(matrix, bias);
      product.input = reinterpret_cast<const uint8_t*>(words.data());
      product.rows = 1;
      product.quantized = &quantized;
      product.output = reinterpret_cast<uint8_t*>(out);
      kernels.multiply[static_cast<size_t>(DenseType::kInt16)](product);
      CHECK(std::abs(out[0] / expected - 1.0) < 2e-3);
    };
    check(flat);
    check(steep);
    check(waving);
  });
}

TEST_CASE("sums of products of bytes are exact at the limits") {
  // Weights and states of scale one, at every place of a step. Pairs of weights sum to 127 or less,
  // or are opposite and large; the last of an odd row has no neighbour.
  constexpr size_t kOutputs = 33, kInputs = 71, kPadded = 80;
  constexpr float kPairs[][2] = {{64, 63},    {-63, -64},  {127, 0},  {0, -127},
                                 {127, -127}, {-127, 127}, {100, 27}, {-1, -126}};
  std::vector<float> weights(kOutputs * kInputs), x(kPadded, 0.0f);
  for (size_t o = 0; o < kOutputs; ++o)
    for (size_t c = 0; c < kInputs; ++c)
      weights[o * kInputs + c] =
          o % 9 == 8 ? (c % 2 ? 63.0f : 64.0f) : kPairs[(o + c / 2) % 8][c % 2];
  for (size_t o = 0; o < kOutputs; ++o) weights[o * kInputs + kInputs - 1] = 127.0f;
  for (size_t c = 0; c < kInputs; ++c) x[c] = c % 17 == 3 ? -127.0f : 127.0f;
  DenseMatrix matrix(DenseType::kInt8, kOutputs, kInputs);
  matrix.pack_rows(0, weights.data(), kOutputs);
  const std::vector<float> bias(matrix.panels() * 16, 0.0f);
  for_every_table([&](const EncoderKernels& kernels) {
    uint8_t states[kPadded];
    const QuantizedRow quantized = kernels.quantize(x.data(), kInputs, states);
    std::vector<float> out(matrix.panels() * 16);
    DenseProduct product = product_with(matrix, bias);
    product.input = states;
    product.rows = 1;
    product.quantized = &quantized;
    product.output = reinterpret_cast<uint8_t*>(out.data());
    kernels.multiply[static_cast<size_t>(DenseType::kInt8)](product);
    for (size_t o = 0; o < kOutputs; ++o) {
      double sum = 0.0;
      for (size_t c = 0; c < kInputs; ++c) sum += double{x[c]} * double{weights[o * kInputs + c]};
      CHECK(out[o] == static_cast<float>(sum));
    }
  });
}

TEST_CASE("no two neighbours weigh too much for products in 16 bits") {
  constexpr size_t kOutputs = 5, kInputs = 37;
  std::vector<float> weights = random_floats(kOutputs * kInputs, 9);
  for (size_t c = 0; c < kInputs; ++c) {
    weights[c] = 1.0f;  // Each is rounded up, from 63.5.
    weights[kInputs + c] = -1.0f;
    weights[2 * kInputs + c] = c % 2 ? 126.0f : 127.0f;
    weights[3 * kInputs + c] = c % 2 ? -3.0e38f : 2.9e38f;
  }
  DenseMatrix matrix(DenseType::kInt8, kOutputs, kInputs);
  matrix.pack_rows(0, weights.data(), kOutputs);
  for (size_t o = 0; o < kOutputs; ++o) {
    int most = 0;
    for (size_t c = 0; c < matrix.steps() * 4; c += 2) {
      const uint8_t* at = matrix.panel(0) + c / 4 * 64 + o * 4 + c % 4;
      const int first = static_cast<int8_t>(at[0]), second = static_cast<int8_t>(at[1]);
      most = std::max({most, std::abs(first + second), std::abs(first), std::abs(second)});
    }
    CHECK(most >= 127);
    CHECK(most <= 128);
  }
}

TEST_CASE("rows that hold one number, or none, are quantized") {
  for_every_table([](const EncoderKernels& kernels) {
    for (const float value : {0.0f, 3.5f, -1e30f}) {
      const std::vector<float> row(32, value);
      uint8_t whole[32];
      const QuantizedRow found = kernels.quantize(row.data(), 32, whole);
      CHECK(found.sum == 0);
      CHECK(found.scale == 0.0f);
      CHECK(found.middle == value);
      int16_t words[32];
      const QuantizedRow wide = kernels.quantize_words(row.data(), 32, words);
      CHECK(std::abs(wide.scale * static_cast<float>(words[5]) - value) <= 1e-4f * std::abs(value));
    }
  });
}

TEST_CASE("activations of encoders are right") {
  constexpr size_t kCount = 1600;
  for_every_table([](const EncoderKernels& kernels) {
    std::vector<float> gate(kCount), ones(kCount, 1.0f);
    for (size_t i = 0; i < kCount; ++i) gate[i] = static_cast<float>(i) * 0.0125f - 10.0f;
    const std::vector<float> x = gate;
    kernels.gate(Activation::kGelu, ones.data(), kCount, gate.data());
    for (size_t i = 0; i < kCount; ++i)
      CHECK(std::abs(gate[i] - x[i] * 0.5 * (1 + std::erf(x[i] / std::sqrt(2.0)))) < 2e-6);
  });
}

TEST_CASE("activations that are rounded with their product are right to rounding") {
  // One input of 1, whose weights and biases are what is activated.
  constexpr size_t kCount = 1600;
  DenseMatrix matrix(DenseType::kFloat32, kCount, 1);
  std::vector<float> x(kCount);
  for (size_t i = 0; i < kCount; ++i) x[i] = static_cast<float>(i) * 0.0125f - 10.0f;
  x[0] = -1e4f;
  x[1] = -1e30f;
  x[2] = 1e4f;
  matrix.pack_rows(0, x.data(), kCount);
  const std::vector<float> nothing(kCount);
  for_every_table([&](const EncoderKernels& kernels) {
    const auto multiply = kernels.multiply[static_cast<size_t>(DenseType::kFloat32)];
    const float one[4] = {1.0f, 0.0f, 0.0f, 0.0f};
    std::vector<uint16_t> rounded(kCount);
    std::vector<float> found(kCount);
    DenseProduct product = product_with(matrix, nothing);
    product.input = reinterpret_cast<const uint8_t*>(one);
    product.rows = 1;
    product.output = reinterpret_cast<uint8_t*>(rounded.data());
    product.half_output = true;
    product.activation = Activation::kGelu;
    multiply(product);
    kernels.from_half(rounded.data(), kCount, found.data());
    for (size_t i = 0; i < kCount; ++i) {
      const double exact = 0.5 * x[i] * (1 + std::erf(x[i] / std::sqrt(2.0)));
      CHECK(std::abs(found[i] - exact) <= 9.5e-5 + std::abs(exact) / 255);
    }
  });
}

TEST_CASE("vectors depend neither on threads nor on the texts beside them") {
  const std::vector<int32_t> lengths = {1, 2, 12, 13, 16, 17, 40, 100, 5, 60, 130, 31};
  for_every_type([&](const std::string& isa, DenseType type) {
    const auto alone = small_program(isa, type, 1), shared = small_program(isa, type, 3);
    const std::vector<float> expected = vectors_of(*alone, lengths);
    CHECK(differences(expected.data(), vectors_of(*shared, lengths).data(), expected.size()) == 0);
    for (size_t text = 0; text < lengths.size(); ++text) {
      const std::vector<float> one = vectors_of(*shared, {lengths[text]});
      CHECK(differences(&expected[text * shared->hidden()], one.data(), one.size()) == 0);
    }
  });
}

TEST_CASE("rounded programs stay near the one in float32") {
  const std::vector<int32_t> lengths = {3, 12, 50};
  const auto exact = small_program("scalar", DenseType::kFloat32, 1);
  const std::vector<float> expected = vectors_of(*exact, lengths);
  for_every_type([&](const std::string& isa, DenseType type) {
    const std::vector<float> actual = vectors_of(*small_program(isa, type, 1), lengths);
    const double limit = type == DenseType::kFloat32 ? 1e-4
                         : type == DenseType::kInt16 ? 3e-3
                                                     : 0.1;
    for (size_t i = 0; i < actual.size(); ++i) CHECK(std::abs(actual[i] - expected[i]) < limit);
  });
}

TEST_CASE("batches that make no sense are refused") {
  const auto program = small_program("scalar", DenseType::kFloat32, 1);
  std::vector<float> out(64);
  const int32_t tokens[] = {1, 99}, starts[] = {0, 2}, backwards[] = {0, 0, 2};
  CHECK_THROWS_AS(
      program->forward({tokens, 2, starts, 1, nullptr, nullptr}, TextPooling::kMean, out.data()),
      std::invalid_argument);
  const int32_t known[] = {1, 2};
  CHECK_THROWS_AS(
      program->forward({known, 2, backwards, 2, nullptr, nullptr}, TextPooling::kMean, out.data()),
      std::invalid_argument);
  CHECK_THROWS_AS(vectors_of(*program, {201}), std::invalid_argument);
}

}  // namespace lepton
