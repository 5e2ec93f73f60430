// Norms, activations and quantization: every instruction set against the portable one.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "products.h"
#include "samples.h"

namespace lepton {
namespace {

// Calls check(kernels, scalar kernels) for each instruction set.
template <class Check>
void for_every_isa(const Check& check) {
  for (const std::string& isa : supported_isas()) {
    CAPTURE(isa);
    check(kernel_table(isa), kernel_table("scalar"));
  }
}

// Moderate, large, tiny, zero and subnormal numbers.
std::vector<float> mixed_floats(size_t count, uint64_t seed) {
  Random random(seed);
  std::vector<float> values(count);
  for (float& value : values)
    value = std::ldexp(random.real(),
                       random.below(8) == 0 ? static_cast<int>(random.below(250)) - 140 : 3);
  return values;
}

QuantizedBuffer quantized(const KernelTable& kernels, const std::vector<float>& x, Planes planes) {
  QuantizedBuffer buffer;
  buffer.reserve(1, x.size(), planes);
  quantize(kernels, x.data(), 0, buffer.view());
  return buffer;
}

}  // namespace

TEST_CASE("norms agree, tails and padding too") {
  for_every_isa([](const KernelTable& kernels, const KernelTable& scalar) {
    for (const size_t columns : {1, 15, 16, 17, 64, 576}) {
      const size_t stride = round_up(columns, 64);
      std::vector<float> x = random_floats(columns, 21), weight = random_floats(columns, 22);
      std::vector<float> actual(stride, 9.0f), expected(stride, 9.0f);
      kernels.rms_norm(x.data(), weight.data(), 1e-5f, columns, stride, actual.data());
      scalar.rms_norm(x.data(), weight.data(), 1e-5f, columns, stride, expected.data());
      CHECK(differences(actual.data(), expected.data(), stride) == 0);
      CHECK(std::all_of(actual.begin() + static_cast<long>(columns), actual.end(),
                        [](float v) { return v == 0.0f; }));
    }
  });
}

TEST_CASE("activations agree and are right") {
  const std::vector<float> gate = mixed_floats(1024, 23), up = random_floats(1024, 24);
  for_every_isa([&](const KernelTable& kernels, const KernelTable& scalar) {
    std::vector<float> actual(1024), expected(1024);
    kernels.silu_gate(gate.data(), up.data(), 1024, actual.data());
    scalar.silu_gate(gate.data(), up.data(), 1024, expected.data());
    CHECK(differences(actual.data(), expected.data(), 1024) == 0);
    for (size_t i = 0; i < 1024; ++i) {
      const double exact = gate[i] / (1 + std::exp(-double{gate[i]})) * up[i];
      // The exponent is limited to 88.
      const double limit = 1e-38 * (1 + std::abs(double{gate[i]} * up[i]));
      CHECK(std::abs(actual[i] - exact) <= 1e-6 * std::abs(exact) + limit);
    }
    kernels.gelu_tanh_gate(gate.data(), up.data(), 1024, actual.data());
    scalar.gelu_tanh_gate(gate.data(), up.data(), 1024, expected.data());
    CHECK(differences(actual.data(), expected.data(), 1024) == 0);
  });
}

TEST_CASE("quantized activations agree and stand for their inputs") {
  for (const Planes planes : {Planes::kOne, Planes::kAdaptive, Planes::kTwo}) {
    CAPTURE(static_cast<int>(planes));
    const std::vector<float> x = mixed_floats(1024, 25);
    for_every_isa([&](const KernelTable& kernels, const KernelTable& scalar) {
      const QuantizedBuffer actual = quantized(kernels, x, planes);
      const QuantizedBuffer expected = quantized(scalar, x, planes);
      CHECK(differences(actual.view().scales, expected.view().scales, 32) == 0);
      constexpr size_t kSums = 32 * QuantizedRows::kSums;
      CHECK(differences(actual.view().sums, expected.view().sums, kSums) == 0);
      CHECK(std::equal(expected.view().integer_sums, expected.view().integer_sums + kSums,
                       actual.view().integer_sums));
      if (planes == Planes::kAdaptive)
        CHECK(std::equal(expected.view().refined, expected.view().refined + 32,
                         actual.view().refined));
    });
    const QuantizedBuffer scalar = quantized(kernel_table("scalar"), x, planes);
    for (size_t i = 0; i < x.size(); ++i) {
      const double step = scalar.view().scales[i / 32];
      const bool two = planes == Planes::kTwo ||
                       (planes == Planes::kAdaptive && scalar.view().refined[i / 32] != 0);
      const int first = scalar.view().values[0][i] * (planes == Planes::kOne ? 1 : 256);
      const int code = first + (two ? scalar.view().values[1][i] : 0);
      // A remainder of one half has no second code of its own.
      const double bound = planes == Planes::kOne ? 0.51 : two ? 1.01 : 0.51 * 256;
      CHECK(std::abs(step * code - x[i]) <= bound * step + 0x1p-109);
    }
  }
}

TEST_CASE("adaptive planes keep the second where scales are large") {
  std::vector<float> x = random_floats(64 * 32, 27);
  for (const size_t block : {3, 40})
    for (size_t i = 0; i < 32; ++i) x[block * 32 + i] *= 100.0f;
  for_every_isa([&](const KernelTable& kernels, const KernelTable&) {
    const QuantizedBuffer buffer = quantized(kernels, x, Planes::kAdaptive);
    for (size_t block = 0; block < 64; ++block)
      CHECK((buffer.view().refined[block] != 0) == (block == 3 || block == 40));
    const QuantizedBuffer zero = quantized(kernels, std::vector<float>(64), Planes::kAdaptive);
    CHECK(zero.view().refined[0] == 0);
  });
}

TEST_CASE("a group that is not finite shows in its scale") {
  for (const float bad : {std::numeric_limits<float>::infinity(),
                          -std::numeric_limits<float>::infinity(), std::nanf("")}) {
    for (const size_t at : {0, 15, 16, 31}) {
      std::vector<float> x = random_floats(64, 26);
      x[at] = bad;
      for_every_isa([&](const KernelTable& kernels, const KernelTable&) {
        const QuantizedBuffer buffer = quantized(kernels, x, Planes::kTwo);
        CHECK(!std::isfinite(buffer.view().scales[0]));
        CHECK(std::isfinite(buffer.view().scales[1]));
      });
    }
  }
}

}  // namespace lepton
