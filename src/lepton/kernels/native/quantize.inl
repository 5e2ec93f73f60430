// Float weights to blocks of 32, sixteen outputs at a time: each lane is an output. Part of
// kernels.inl.

// Codes of the 8-bit type are signed, those of the others begin at zero.
constexpr float largest_code(TensorType type) {
  return type == TensorType::kQ8_0 ? 127.0f : type == TensorType::kQ5_1 ? 31.0f : 15.0f;
}

// A weight is about scale · code + minimum.
struct Line {
  F scale, minimum, error;
};

// Whole numbers from `low` to `high`; a NaN gives `low`.
LEPTON_INLINE I nearest_codes(F steps, float low, float high) {
  return Simd::round(Simd::min(Simd::max(steps, Simd::set1(low)), Simd::set1(high)));
}

// The least squares line through `weights`, given the codes they have on another one.
Line refit(const float* weights, F sum, F squares, float largest, const Line& line) {
  const F inverse = Simd::div(Simd::set1(1.0f), line.scale);
  const F offset = Simd::mul(Simd::sub(zero(), line.minimum), inverse);
  F codes = zero(), code_squares = zero(), products = zero();
  for (int i = 0; i < kBlockColumns; ++i) {
    const F weight = Simd::load(weights + i * kPanelRows);
    const F steps = Simd::fma(weight, inverse, offset);
    const F code = Simd::to_float(nearest_codes(steps, 0.0f, largest));
    codes = Simd::add(codes, code);
    code_squares = Simd::fma(code, code, code_squares);
    products = Simd::fma(code, weight, products);
  }
  const F n = Simd::set1(static_cast<float>(kBlockColumns));
  // Zero when all codes are equal: the error is then NaN, and the line is not taken.
  const F spread = Simd::sub(Simd::mul(n, code_squares), Simd::mul(codes, codes));
  Line best;
  best.scale = Simd::div(Simd::sub(Simd::mul(n, products), Simd::mul(sum, codes)), spread);
  best.minimum = Simd::div(Simd::sub(sum, Simd::mul(best.scale, codes)), n);
  best.error =
      Simd::sub(Simd::sub(squares, Simd::mul(best.scale, products)), Simd::mul(best.minimum, sum));
  return best;
}

struct BestLine {
  float scale[kPanelRows], minimum[kPanelRows], error[kPanelRows];

  void take_if_better(const Line& line) {
    float scales[kPanelRows], minimums[kPanelRows], errors[kPanelRows];
    Simd::store(scales, line.scale);
    Simd::store(minimums, line.minimum);
    Simd::store(errors, line.error);
    for (int j = 0; j < kPanelRows; ++j) {
      if (!(errors[j] < error[j])) continue;
      scale[j] = scales[j];
      minimum[j] = minimums[j];
      error[j] = errors[j];
    }
  }
};

void load_tile(TensorType source, const uint8_t* raw, float* weights) {
  const auto* halves = reinterpret_cast<const uint16_t*>(raw);
  for (int i = 0; i < kBlockColumns; i += 2) {
    F even, odd;
    if (source == TensorType::kBF16) {
      Simd::load_bf16_pairs(halves + i * kPanelRows, even, odd);
    } else if (source == TensorType::kF16) {
      even = Simd::load_f16(halves + i * kPanelRows);
      odd = Simd::load_f16(halves + (i + 1) * kPanelRows);
    } else {
      const auto* floats = reinterpret_cast<const float*>(raw);
      even = Simd::load(floats + i * kPanelRows);
      odd = Simd::load(floats + (i + 1) * kPanelRows);
    }
    Simd::store(weights + i * kPanelRows, even);
    Simd::store(weights + (i + 1) * kPanelRows, odd);
  }
}

void fit(TensorType type, TensorType source, const uint8_t* raw, float* weights, float* scales,
         float* minimums) {
  load_tile(source, raw, weights);
  F low = Simd::load(weights), high = low, nothing = zero();
  for (int i = 0; i < kBlockColumns; ++i) {
    const F weight = Simd::load(weights + i * kPanelRows);
    low = Simd::min(weight, low);
    high = Simd::max(weight, high);
    // A number less itself is zero, unless it is not finite.
    nothing = Simd::add(nothing, Simd::sub(weight, weight));
  }
  const float largest = largest_code(type);
  if (type == TensorType::kQ8_0) {
    const F magnitude = Simd::max(high, Simd::sub(zero(), low));
    Simd::store(scales, Simd::add(Simd::div(magnitude, Simd::set1(largest)), nothing));
    Simd::store(minimums, zero());
    return;
  }
  // Sums of squares are exact enough only around the middle.
  const F half = Simd::set1(0.5f);
  const F middle = Simd::fma(half, low, Simd::mul(half, high));
  const F width = Simd::sub(high, low);
  F sum = zero(), squares = zero();
  float centred[kBlockColumns * kPanelRows];
  for (int i = 0; i < kBlockColumns; ++i) {
    const F weight = Simd::sub(Simd::load(weights + i * kPanelRows), middle);
    Simd::store(centred + i * kPanelRows, weight);
    sum = Simd::add(sum, weight);
    squares = Simd::fma(weight, weight, squares);
  }
  // To begin with, all codes are zero.
  BestLine best;
  Simd::store(best.scale, nothing);
  Simd::store(best.minimum, zero());
  Simd::store(best.error, squares);
  // Outliers cost less when they are cut off than when they widen every step: lines over these
  // shares of the range are tried, each drawn anew through its codes so many times.
  constexpr float kShares[] = {1.0f, 0.92f, 0.84f, 0.76f};
  constexpr int kPasses = 2;
  for (const float share : kShares) {
    Line line{Simd::mul(width, Simd::set1(share / largest)),
              Simd::mul(width, Simd::set1(-0.5f * share)), squares};
    for (int pass = 0; pass < kPasses; ++pass) line = refit(centred, sum, squares, largest, line);
    best.take_if_better(line);
  }
  Simd::store(scales, Simd::load(best.scale));
  Simd::store(minimums, Simd::add(Simd::load(best.minimum), middle));
}

void encode(TensorType type, const float* weights, const float* scales, const float* minimums,
            int8_t* codes) {
  float inverses[kPanelRows];
  for (int j = 0; j < kPanelRows; ++j) inverses[j] = scales[j] > 0.0f ? 1.0f / scales[j] : 0.0f;
  const F inverse = Simd::load(inverses), minimum = Simd::load(minimums);
  const float high = largest_code(type), low = type == TensorType::kQ8_0 ? -high : 0.0f;
  for (int i = 0; i < kBlockColumns; ++i) {
    const F weight = Simd::load(weights + i * kPanelRows);
    const F steps = Simd::mul(Simd::sub(weight, minimum), inverse);
    Simd::store_int8(codes + i * kPanelRows, nearest_codes(steps, low, high));
  }
}
