#include "head.h"

#include <doctest/doctest.h>

#include <cmath>
#include <functional>
#include <limits>

#include "samples.h"

namespace lepton {
namespace {

constexpr TensorType kQ8 = TensorType::kQ8_0;
constexpr size_t kBlockBytes = kSourceBlockBytes<kQ8>;
constexpr float kLowest = std::numeric_limits<float>::lowest();

Matrix pack(const std::vector<uint8_t>& source, size_t outputs, size_t columns, bool split) {
  ThreadPool pool(2);
  Matrix matrix(kQ8, outputs, columns, split);
  matrix.pack_rows(0, kQ8, source.data(), source.size(), pool);
  return matrix;
}

std::vector<float> unpack(const Matrix& matrix) {
  std::vector<float> dense(matrix.rows() * matrix.columns());
  for (size_t r = 0; r < matrix.rows(); ++r)
    matrix.unpack_row(r, dense.data() + r * matrix.columns());
  return dense;
}

void set_scale(std::vector<uint8_t>& source, size_t block, float scale) {
  const uint16_t bits = float_to_half(scale);
  std::memcpy(&source[block * kBlockBytes], &bits, sizeof bits);
}

// Codes as a quantizer leaves them: the largest of a block is ±127, and scales are alike.
std::vector<uint8_t> trained_source(size_t outputs, size_t columns, uint64_t seed) {
  Random random(seed);
  std::vector<uint8_t> source(outputs * columns / kBlockColumns * kBlockBytes);
  for (size_t block = 0; block < source.size() / kBlockBytes; ++block) {
    set_scale(source, block, 0.01f + 0.002f * random.real());
    uint8_t* codes = &source[block * kBlockBytes + 2];
    for (int i = 0; i < kBlockColumns; ++i) {
      const float bell = random.real() + random.real() + random.real();
      codes[i] = static_cast<uint8_t>(static_cast<int>(bell * 42.0f));
    }
    codes[random.below(kBlockColumns)] = random.below(2) ? 127 : 0x81;
  }
  return source;
}

// A scan beside the full product of the same inputs, on one instruction set.
struct Heads {
  Heads(const std::vector<uint8_t>& source, size_t num_outputs, size_t columns,
        std::vector<float> biases = {})
      : outputs(num_outputs),
        matrix(pack(source, outputs, columns, true)),
        bias(std::move(biases)) {
    if (!bias.empty()) bias.resize(round_up(outputs, kPanelRows), 0.0f);
  }

  // Whether the scan found the largest; logits then holds what it wrote, full all logits.
  bool run(const std::vector<float>& inputs, const std::vector<int32_t>& num_best,
           Planes planes = Planes::kTwo, const std::string& isa = "") {
    const KernelTable& kernels = kernel_table(isa);
    const size_t rows = num_best.size(), columns = matrix.columns();
    ThreadPool pool(2);
    Rows input, output;
    QuantizedBuffer quantized;
    input.reserve(rows, columns);
    output.reserve(rows, outputs);
    quantized.reserve(rows, columns, planes);
    for (size_t r = 0; r < rows; ++r) {
      std::fill_n(input.row(r), input.stride(), 0.0f);
      std::copy_n(inputs.data() + r * columns, columns, input.row(r));
      quantize(kernels, input.row(r), r, quantized.view());
    }
    multiply(pool, kernels, input, quantized.view(), rows, {{matrix, bias, output}}, false);
    full.clear();
    for (size_t r = 0; r < rows; ++r)
      full.insert(full.end(), output.row(r), output.row(r) + outputs);
    logits.assign(rows * outputs, 0.0f);
    return HeadScan(pool, kernels)
        .run({input, quantized.view(), matrix, bias, num_best.data(), logits.data()});
  }

  // How many logits of all rows the scan computed; checks these, and that the largest are there.
  size_t check(const std::vector<int32_t>& num_best) const {
    size_t computed = 0, wrong = 0, missing = 0;
    for (size_t r = 0; r < num_best.size(); ++r) {
      std::vector<float> sorted(full.begin() + static_cast<std::ptrdiff_t>(r * outputs),
                                full.begin() + static_cast<std::ptrdiff_t>((r + 1) * outputs));
      std::sort(sorted.begin(), sorted.end(), std::greater<float>());
      const float limit = sorted[static_cast<size_t>(num_best[r]) - 1];
      for (size_t o = r * outputs; o < (r + 1) * outputs; ++o) {
        if (logits[o] == kLowest) {
          missing += full[o] >= limit;
        } else {
          ++computed;
          wrong += float_to_bits(logits[o]) != float_to_bits(full[o]);
        }
      }
    }
    CHECK(wrong == 0);
    CHECK(missing == 0);
    return computed;
  }

  size_t outputs;
  Matrix matrix;
  std::vector<float> bias, full, logits;
};

}  // namespace

TEST_CASE("a split matrix takes no more memory and holds the same weights") {
  ThreadPool pool(2);
  for (const auto& [outputs, columns] : {std::pair<size_t, size_t>{1, 32}, {37, 96}, {64, 576}}) {
    const std::vector<uint8_t> source = random_source(kQ8, outputs, columns, 20);
    const Matrix plain = pack(source, outputs, columns, false);
    const Matrix split = pack(source, outputs, columns, true);
    CHECK(split.bytes() == plain.bytes());
    const std::vector<float> expected = unpack(plain), actual = unpack(split);
    CHECK(differences(actual.data(), expected.data(), expected.size()) == 0);
  }
}

TEST_CASE("a split matrix quantizes and packs in parts as a plain one does") {
  ThreadPool pool(2);
  const std::vector<uint8_t> source = random_source(TensorType::kF32, 37, 64, 21);
  const size_t stride = source.size() / 37;
  Matrix plain(kQ8, 37, 64), split(kQ8, 37, 64, true);
  plain.pack_rows(0, TensorType::kF32, source.data(), source.size(), pool);
  split.pack_rows(32, TensorType::kF32, source.data() + 32 * stride, 5 * stride, pool);
  split.pack_rows(0, TensorType::kF32, source.data(), 32 * stride, pool);
  const std::vector<float> expected = unpack(plain), actual = unpack(split);
  CHECK(differences(actual.data(), expected.data(), expected.size()) == 0);
}

TEST_CASE("only whole blocks of Q8_0 are split") {
  CHECK_THROWS_AS(Matrix(TensorType::kQ4_0, 16, 64, true), std::invalid_argument);
  CHECK_THROWS_AS(Matrix(TensorType::kF32, 16, 64, true), std::invalid_argument);
  CHECK_THROWS_AS(Matrix(kQ8, 16, 48, true), std::invalid_argument);
}

TEST_CASE("a split matrix gives the products of a plain one to the bit") {
  for (const auto& [outputs, columns] : {std::pair<size_t, size_t>{16, 32}, {37, 96}, {83, 640}}) {
    std::vector<uint8_t> source = random_source(kQ8, outputs, columns, 22);
    for (size_t i = 0; i < kBlockColumns; ++i)  // Codes of -128 and 127 throughout a block.
      source[2 + i] = 0x80, source[source.size() - 1 - i] = 0x7f;
    const Matrix plain = pack(source, outputs, columns, false);
    const Matrix split = pack(source, outputs, columns, true);
    const std::vector<float> inputs = rows_with_spikes(131, columns, 23);
    for (const std::string& isa : supported_isas()) {
      for (const Planes planes : {Planes::kAdaptive, Planes::kTwo}) {
        for (const size_t rows : {1, 2, 3, 4, 5, 6, 7, 64, 131}) {
          CAPTURE(isa);
          CAPTURE(static_cast<int>(planes));
          CAPTURE(rows);
          const auto expected =
              multiply_alone(plain, inputs.data(), rows, planes, kernel_table("scalar"));
          const auto actual = multiply_alone(split, inputs.data(), rows, planes, kernel_table(isa));
          CHECK(differences(actual.data(), expected.data(), expected.size()) == 0);
        }
      }
    }
  }
}

TEST_CASE("a scan finds the largest logits and computes few others") {
  constexpr size_t kOutputs = 8003, kColumns = 256;
  Heads heads(trained_source(kOutputs, kColumns, 24), kOutputs, kColumns,
              random_floats(kOutputs, 25));
  const std::vector<float> inputs = random_floats(kScanRows * kColumns, 26);
  const std::vector<std::vector<int32_t>> cases = {{1},
                                                   {5},
                                                   {1, 1},
                                                   {1, 3, 1},
                                                   {1, 1, 2, 1},
                                                   {2, 1, 1, 1, 1},
                                                   {1, 1, 1, 1, 1, 1},
                                                   {1, 1, 4, 1, 1, 1, 1},
                                                   std::vector<int32_t>(kScanRows, 1)};
  for (const std::vector<int32_t>& num_best : cases) {
    for (const Planes planes : {Planes::kAdaptive, Planes::kTwo}) {
      REQUIRE(heads.run(inputs, num_best, planes));
      CHECK(heads.check(num_best) < heads.full.size() / 8);
    }
  }
}

TEST_CASE("a row whose logits are all near costs the others nothing") {
  constexpr size_t kOutputs = 8000, kColumns = 256;
  std::vector<float> bias(kOutputs, -1.0f);
  std::fill_n(bias.begin(), kOutputs / 3, 0.0f);
  Heads heads(trained_source(kOutputs, kColumns, 46), kOutputs, kColumns, bias);
  std::vector<float> inputs = random_floats(kScanRows * kColumns, 47);
  const auto alone = [&](size_t row) {
    const auto begin = inputs.begin() + static_cast<std::ptrdiff_t>(row * kColumns);
    return heads.run({begin, begin + kColumns}, {1});
  };
  std::fill_n(inputs.begin() + 2 * kColumns, kColumns, 0.0f);  // The bias alone: a third is equal.
  REQUIRE(alone(1));
  REQUIRE_FALSE(alone(2));
  const std::vector<int32_t> num_best(kScanRows, 1);
  REQUIRE(heads.run(inputs, num_best));
  heads.check(num_best);
  const auto computed = [&](size_t row) {
    const float* logits = heads.logits.data() + row * kOutputs;
    return std::count_if(logits, logits + kOutputs, [](float x) { return x > kLowest; });
  };
  CHECK(computed(2) > kOutputs / 8);
  for (size_t row = 0; row < kScanRows; ++row)
    if (row != 2) CHECK(computed(row) < kOutputs / 8);
}

TEST_CASE("a scan is right for one input after another") {
  constexpr size_t kOutputs = 4000, kColumns = 128;
  Heads heads(trained_source(kOutputs, kColumns, 45), kOutputs, kColumns);
  size_t scanned = 0;
  for (uint64_t seed = 100; seed < 300; ++seed) {
    if (!heads.run(random_floats(kColumns, seed), {1})) continue;
    heads.check({1});
    ++scanned;
  }
  CHECK(scanned > 150);
}

TEST_CASE("a scan computes the same logits on every instruction set") {
  constexpr size_t kOutputs = 2000, kColumns = 128;
  Heads heads(trained_source(kOutputs, kColumns, 27), kOutputs, kColumns);
  const std::vector<float> inputs = random_floats(kScanRows * kColumns, 28);
  for (const size_t rows : {size_t{3}, kScanRows}) {
    std::vector<int32_t> num_best(rows, 1);
    num_best[1] = 2;
    for (const Planes planes : {Planes::kAdaptive, Planes::kTwo}) {
      REQUIRE(heads.run(inputs, num_best, planes, "scalar"));
      const std::vector<float> expected = heads.logits;
      for (const std::string& isa : supported_isas()) {
        CAPTURE(isa);
        REQUIRE(heads.run(inputs, num_best, planes, isa));
        CHECK(differences(heads.logits.data(), expected.data(), expected.size()) == 0);
      }
    }
  }
}

TEST_CASE("equal rows are all found, or the full product is asked for") {
  constexpr size_t kOutputs = 4003, kColumns = 64;
  std::vector<uint8_t> source = trained_source(kOutputs, kColumns, 29);
  const size_t stride = source.size() / kOutputs;
  Heads all(source, kOutputs, kColumns);
  const std::vector<float> inputs = random_floats(kColumns, 30);
  REQUIRE(all.run(inputs, {1}));
  const auto best =
      static_cast<size_t>(std::max_element(all.full.begin(), all.full.end()) - all.full.begin());
  for (const size_t twin : {size_t{0}, size_t{17}, best / 2, kOutputs - 1})
    std::copy_n(&source[best * stride], stride, &source[twin * stride]);
  Heads twins(source, kOutputs, kColumns);
  REQUIRE(twins.run(inputs, {1}));
  CHECK(twins.check({1}) > 4 * kPanelRows);
  for (size_t row = 0; row < kOutputs; ++row)
    std::copy_n(&source[best * stride], stride, &source[row * stride]);
  CHECK_FALSE(Heads(source, kOutputs, kColumns).run(inputs, {1}));
}

TEST_CASE("rows of one code are computed, whatever their bounds") {
  constexpr size_t kOutputs = 8000, kColumns = 2048, kBlocks = kColumns / kBlockColumns;
  std::vector<uint8_t> source = trained_source(kOutputs, kColumns, 31);
  const auto repeat = [&](size_t row, uint8_t code) {
    for (size_t block = row * kBlocks; block < (row + 1) * kBlocks; ++block)
      std::fill_n(&source[block * kBlockBytes + 2], kBlockColumns, code);
  };
  // Against inputs of one sign a low nibble of 15 is 7.5 steps more than its bound takes it for.
  for (size_t row = 40; row < kOutputs; row += 800) repeat(row, 0x0f);
  std::vector<float> bias(kOutputs, 0.0f);
  Heads plain(source, kOutputs, kColumns, bias);
  const std::vector<float> ones(kColumns, 1.0f);
  REQUIRE(plain.matrix.uneven_panels().size() >= 10);
  REQUIRE(plain.matrix.uneven_panels().size() < 20);
  plain.run(ones, {1});
  // The largest logit becomes one of theirs, by less than the bound is wrong.
  const float best = *std::max_element(plain.full.begin(), plain.full.end());
  for (size_t row = 40; row < kOutputs; row += 800) bias[row] = best - plain.full[row] + 1.0f;
  Heads heads(source, kOutputs, kColumns, bias);
  REQUIRE(heads.run(ones, {1}));
  heads.check({1});
  // Of 127 and -127 in equal parts the mean is even, but not the squares.
  std::vector<uint8_t> balanced = trained_source(kOutputs, kColumns, 48);
  const auto uneven = [&] {
    return Heads(balanced, kOutputs, kColumns).matrix.uneven_panels().size();
  };
  const size_t before = uneven();
  for (size_t block = 0; block < kBlocks; ++block)
    for (size_t i = 0; i < kBlockColumns; ++i)
      balanced[block * kBlockBytes + 2 + i] = i % 2 ? 127 : 0x81;
  CHECK(uneven() == before + 1);
  for (size_t row = 0; row < kOutputs; row += 2) repeat(row, 0);
  const Heads sparse(source, kOutputs, kColumns, bias);
  const int32_t one = 1;
  CHECK_FALSE(HeadScan::pays(sparse.matrix, 1, &one));
}

TEST_CASE("one block may outweigh all others, in the weights and in the inputs") {
  constexpr size_t kOutputs = 8000, kColumns = 320, kBlocks = kColumns / kBlockColumns;
  std::vector<uint8_t> source = trained_source(kOutputs, kColumns, 32);
  std::vector<float> inputs = random_floats(kColumns, 33);
  for (size_t i = 0; i < kBlockColumns; ++i) inputs[64 + i] *= 1000.0f;
  Heads outlying_inputs(source, kOutputs, kColumns);
  REQUIRE(outlying_inputs.run(inputs, {1}));
  outlying_inputs.check({1});
  for (size_t row = 0; row < kOutputs; row += 3) set_scale(source, row * kBlocks + 5, 50.0f);
  Heads outlying_weights(source, kOutputs, kColumns);
  REQUIRE(outlying_weights.run(inputs, {1}));
  outlying_weights.check({1});
}

TEST_CASE("tiny inputs are bounded as tightly as others") {
  constexpr size_t kOutputs = 4000, kColumns = 256;
  Heads heads(trained_source(kOutputs, kColumns, 34), kOutputs, kColumns);
  std::vector<float> inputs = random_floats(kColumns, 35);
  for (float& x : inputs) x *= 1e-25f;
  REQUIRE(heads.run(inputs, {1}));
  CHECK(heads.check({1}) < kOutputs / 8);
}

TEST_CASE("inputs of zero leave the choice to the bias") {
  constexpr size_t kOutputs = 1000, kColumns = 64;
  const std::vector<uint8_t> source = trained_source(kOutputs, kColumns, 36);
  const std::vector<float> zeros(kColumns, 0.0f);
  Heads biased(source, kOutputs, kColumns, random_floats(kOutputs, 37));
  REQUIRE(biased.run(zeros, {2}));
  CHECK(biased.check({2}) <= 2 * kPanelRows);
  CHECK_FALSE(Heads(source, kOutputs, kColumns).run(zeros, {1}));
}

TEST_CASE("rows that only fill a panel up are never the largest") {
  constexpr size_t kOutputs = 1601, kColumns = 64;
  std::vector<float> bias(kOutputs, -100.0f);
  bias[7] = -50.0f;
  Heads heads(trained_source(kOutputs, kColumns, 38), kOutputs, kColumns, bias);
  REQUIRE(heads.run(random_floats(kColumns, 39), {1}));
  CHECK(heads.check({1}) == kPanelRows);
}

TEST_CASE("what is not finite asks for the full product") {
  constexpr size_t kOutputs = 1000, kColumns = 64;
  std::vector<uint8_t> source = trained_source(kOutputs, kColumns, 40);
  std::vector<float> inputs = random_floats(kColumns, 41);
  for (const float bad : {std::nanf(""), INFINITY, -INFINITY}) {
    std::vector<float> spoilt = inputs;
    spoilt[40] = bad;
    CHECK_FALSE(Heads(source, kOutputs, kColumns).run(spoilt, {1}));
    std::vector<uint8_t> broken = source;
    set_scale(broken, 1501, bad);
    CHECK_FALSE(Heads(broken, kOutputs, kColumns).run(inputs, {1}));
  }
}

TEST_CASE("a scan pays for few rows and few of many logits") {
  const std::vector<uint8_t> source = random_source(kQ8, 5000, 32, 44);
  const Matrix plain = pack(source, 5000, 32, false), split = pack(source, 5000, 32, true);
  const auto pays = [](const Matrix& matrix, const std::vector<int32_t>& num_best) {
    return HeadScan::pays(matrix, num_best.size(), num_best.data());
  };
  CHECK(pays(split, {1}));
  CHECK(pays(split, {2, 1, 1, 2}));
  CHECK_FALSE(pays(split, {1, 0}));
  CHECK_FALSE(pays(split, {3}));
  CHECK(pays(split, std::vector<int32_t>(kScanRows, 1)));
  CHECK_FALSE(pays(split, std::vector<int32_t>(kScanRows + 1, 1)));
  CHECK_FALSE(pays(plain, {1}));
  CHECK_FALSE(HeadScan::pays(split, 1, nullptr));
}

TEST_CASE("more logits than panels ask for the full product") {
  constexpr size_t kOutputs = 1000, kColumns = 64;
  std::vector<float> bias(kOutputs, 0.0f);
  bias[500] = 1000.0f;
  Heads heads(trained_source(kOutputs, kColumns, 42), kOutputs, kColumns, bias);
  const std::vector<float> inputs = random_floats(kColumns, 43);
  REQUIRE(heads.run(inputs, {1}));
  CHECK_FALSE(heads.run(inputs, {64}));
}

}  // namespace lepton
