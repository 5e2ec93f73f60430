// Passes over logits: every instruction set against the portable one and plain code.
#include <doctest/doctest.h>

#include <limits>

#include "samples.h"

namespace lepton {

TEST_CASE("logits are scanned, weighed and collected alike") {
  const SamplingKernels& scalar = kernel_table("scalar").sampling;
  for (const std::string& isa : supported_isas()) {
    const SamplingKernels& kernels = kernel_table(isa).sampling;
    for (const size_t count : {1, 15, 16, 17, 511, 512, 513, 5000}) {
      CAPTURE(isa);
      CAPTURE(count);
      std::vector<float> x = random_floats(count, 31);
      for (float& value : x) value *= 60.0f;
      const float peak = *std::max_element(x.begin(), x.end());

      const size_t maxima = (count + kStretch - 1) / kStretch * 16;
      std::vector<float> most(maxima), expected_most(maxima);
      CHECK(kernels.scan_logits(x.data(), count, most.data()));
      CHECK(scalar.scan_logits(x.data(), count, expected_most.data()));
      CHECK(differences(most.data(), expected_most.data(), maxima) == 0);
      CHECK(*std::max_element(most.begin(), most.end()) == peak);

      std::vector<float> weights(count), expected(count);
      const float total = kernels.weigh(x.data(), count, peak, 1.3f, weights.data());
      CHECK(total == scalar.weigh(x.data(), count, peak, 1.3f, expected.data()));
      CHECK(differences(weights.data(), expected.data(), count) == 0);

      std::vector<int32_t> places(count), wanted;
      for (size_t i = 0; i < count; ++i)
        if (x[i] >= 10.0f) wanted.push_back(static_cast<int32_t>(i));
      places.resize(kernels.collect(x.data(), count, 10.0f, places.data()));
      CHECK(places == wanted);

      for (const float bad :
           {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
        std::vector<float> spoilt = x;
        spoilt[count / 2] = bad;
        CHECK_FALSE(kernels.scan_logits(spoilt.data(), count, most.data()));
      }
    }
  }
}

}  // namespace lepton
