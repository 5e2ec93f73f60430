// Norms, activations and conversions of rows. Part of encoder_kernels.inl.

// x · Φ(x); the error function by formula 7.1.26 of Abramowitz and Stegun, right to 1.5e-7.
LEPTON_INLINE F gelu(F x) {
  const F z = Simd::mul(Simd::abs(x), Simd::set1(0.70710678f));
  const F t = Simd::div(Simd::set1(1.0f), Simd::fma(z, Simd::set1(0.3275911f), Simd::set1(1.0f)));
  F p = Simd::set1(1.061405429f);
  p = Simd::fma(p, t, Simd::set1(-1.453152027f));
  p = Simd::fma(p, t, Simd::set1(1.421413741f));
  p = Simd::fma(p, t, Simd::set1(-0.284496736f));
  p = Simd::fma(p, t, Simd::set1(0.254829592f));
  const F power = exponential(Simd::sub(zero(), Simd::mul(z, z)));
  // |x| · (1 - Φ(|x|)), which is what the result lacks of max(x, 0).
  const F tail =
      Simd::mul(Simd::mul(Simd::mul(p, t), power), Simd::mul(z, Simd::set1(0.70710678f)));
  return Simd::sub(Simd::max(x, zero()), tail);
}

// x · Φ(x) to within 9e-5, or a few units in the last place of large results: Φ - ½ as an odd
// polynomial in x / 4.2 that is ½ at 1, fitted for the least largest error of the product. Below
// -4.2 the product ends as well, or Φ's rounding error would grow with x.
LEPTON_INLINE F gelu_roughly(F x) {
  x = Simd::max(x, Simd::set1(-4.2f));
  const F t = Simd::min(Simd::mul(x, Simd::set1(1.0f / 4.2f)), Simd::set1(1.0f));
  const F square = Simd::mul(t, t);
  F p = Simd::set1(-2.01293254f);
  p = Simd::fma(p, square, Simd::set1(10.0493174f));
  p = Simd::fma(p, square, Simd::set1(-21.7932472f));
  p = Simd::fma(p, square, Simd::set1(27.2026196f));
  p = Simd::fma(p, square, Simd::set1(-21.916441f));
  p = Simd::fma(p, square, Simd::set1(12.1519823f));
  p = Simd::fma(p, square, Simd::set1(-4.85485458f));
  p = Simd::fma(p, square, Simd::set1(1.67355669f));
  return Simd::mul(x, Simd::fma(t, p, Simd::set1(0.5f)));
}

LEPTON_INLINE F gelu_tanh(F x) {
  const F cube = Simd::mul(Simd::mul(x, x), x);
  const F inner = Simd::fma(cube, Simd::set1(0.044715f), x);
  const F power = exponential(Simd::mul(inner, Simd::set1(-1.595769122f)));
  return Simd::div(x, Simd::add(Simd::set1(1.0f), power));
}

LEPTON_INLINE F silu(F x) {
  return Simd::div(x, Simd::add(Simd::set1(1.0f), exponential(Simd::sub(zero(), x))));
}

template <Activation A>
LEPTON_INLINE F activate(F x) {
  if constexpr (A == Activation::kGelu) return gelu(x);
  if constexpr (A == Activation::kGeluTanh) return gelu_tanh(x);
  if constexpr (A == Activation::kRelu) return Simd::max(x, zero());
  if constexpr (A == Activation::kSilu) return silu(x);
  return x;
}

// Sums of a row: lanes first, then the values that fill no vector.
template <class Term, class Rest>
LEPTON_INLINE float sum_row(size_t columns, const Term& term, const Rest& rest) {
  F sums = zero();
  size_t i = 0;
  for (; i + kLanes <= columns; i += kLanes) sums = term(i, sums);
  float total = Simd::sum_lanes(sums);
  for (; i < columns; ++i) total += rest(i);
  return total;
}

void layer_norm(const float* x, const float* weight, const float* bias, float epsilon,
                size_t columns, float* y) {
  const auto count = static_cast<float>(columns);
  const float mean =
      sum_row(
          columns, [&](size_t i, F sums) { return Simd::add(sums, Simd::load(x + i)); },
          [&](size_t i) { return x[i]; }) /
      count;
  const F means = Simd::set1(mean);
  const float squares = sum_row(
      columns,
      [&](size_t i, F sums) {
        const F centred = Simd::sub(Simd::load(x + i), means);
        return Simd::fma(centred, centred, sums);
      },
      [&](size_t i) { return (x[i] - mean) * (x[i] - mean); });
  const float factor = 1.0f / __builtin_sqrtf(squares / count + epsilon);
  const F factors = Simd::set1(factor);
  size_t i = 0;
  for (; i + kLanes <= columns; i += kLanes) {
    const F centred = Simd::mul(Simd::sub(Simd::load(x + i), means), factors);
    Simd::store(y + i, Simd::fma(centred, Simd::load(weight + i), Simd::load(bias + i)));
  }
  for (; i < columns; ++i) y[i] = (x[i] - mean) * factor * weight[i] + bias[i];
}

void rms_norm(const float* x, const float* weight, float epsilon, size_t columns, float* y) {
  const float squares = sum_row(
      columns,
      [&](size_t i, F sums) {
        const F v = Simd::load(x + i);
        return Simd::fma(v, v, sums);
      },
      [&](size_t i) { return x[i] * x[i]; });
  const float factor = 1.0f / __builtin_sqrtf(squares / static_cast<float>(columns) + epsilon);
  const F factors = Simd::set1(factor);
  size_t i = 0;
  for (; i + kLanes <= columns; i += kLanes)
    Simd::store(y + i, Simd::mul(Simd::mul(Simd::load(x + i), factors), Simd::load(weight + i)));
  for (; i < columns; ++i) y[i] = x[i] * factor * weight[i];
}

void add_rows(const float* y, size_t count, float* x) {
  size_t i = 0;
  for (; i + kLanes <= count; i += kLanes)
    Simd::store(x + i, Simd::add(Simd::load(x + i), Simd::load(y + i)));
  for (; i < count; ++i) x[i] += y[i];
}

LEPTON_INLINE void store_states(uint8_t* p, I whole) {
#ifdef LEPTON_UNSIGNED_STATES
  Simd::store_uint8(p, Simd::add(whole, Simd::set1(lepton::kStateOffset)));
#else
  Simd::store_int8(reinterpret_cast<int8_t*>(p), whole);
#endif
}

QuantizedRow quantize(const float* x, size_t count, uint8_t* y) {
  F most = Simd::load(x), least = Simd::sub(zero(), most);
  for (size_t i = kLanes; i < count; i += kLanes) {
    const F v = Simd::load(x + i);
    most = Simd::max(most, v);
    least = Simd::max(least, Simd::sub(zero(), v));
  }
  const float highest = Simd::max_lanes(most), lowest = -Simd::max_lanes(least);
  const float middle = 0.5f * (highest + lowest), reach = 0.5f * (highest - lowest);
  const bool nothing = !(reach > 0x1p-110f);
  const F inverse = Simd::set1(nothing ? 0.0f : 127.0f / reach);
  const F middles = Simd::set1(middle);
  I sums = Simd::set1(0);
  for (size_t i = 0; i < count; i += kLanes) {
    // Rounding the middle of a narrow range may leave numbers beyond it.
    const F steps = Simd::mul(Simd::sub(Simd::load(x + i), middles), inverse);
    const I whole =
        Simd::round(Simd::max(Simd::min(steps, Simd::set1(127.0f)), Simd::set1(-127.0f)));
    store_states(y + i, whole);
    sums = Simd::add(sums, whole);
  }
  int32_t sum = Simd::sum(sums);
  for (size_t i = count; i % kLanes != 0; ++i) {
    sum -= kUnsignedStates ? y[i] - lepton::kStateOffset : static_cast<int8_t>(y[i]);
    y[i] = 0;
  }
  return {nothing ? 0.0f : reach / 127.0f, middle, sum};
}

QuantizedRow quantize_words(const float* x, size_t count, int16_t* y) {
  F most = zero();
  for (size_t i = 0; i < count; i += kLanes) most = Simd::max(most, Simd::abs(Simd::load(x + i)));
  const float largest = Simd::max_lanes(most);
  const bool nothing = !(largest > 0x1p-110f);
  const F parts = Simd::set1(nothing ? 0.0f : 1.0f / largest);
  F squares = zero();
  for (size_t i = 0; i < count; i += kLanes) {
    const F part = Simd::mul(Simd::load(x + i), parts);
    squares = Simd::fma(part, part, squares);
  }
  // What the largest number becomes.
  const float length = __builtin_sqrtf(Simd::sum_lanes(squares));
  const float steps =
      nothing ? 1.0f : __builtin_fminf(32767.0f, lepton::longest_words(count) / length);
  const F inverse = Simd::set1(nothing ? 0.0f : steps / largest);
  for (size_t i = 0; i < count; i += kLanes)
    Simd::store_int16(y + i, Simd::round(Simd::mul(Simd::load(x + i), inverse)));
  for (size_t i = count; i % kLanes != 0; ++i) y[i] = 0;
  return {nothing ? 0.0f : largest / steps, 0.0f, 0};
}

template <Activation A>
void gate_with(const float* up, size_t count, float* gate) {
  for (size_t i = 0; i < count; i += kLanes)
    Simd::store(gate + i, Simd::mul(activate<A>(Simd::load(gate + i)), Simd::load(up + i)));
}

void gate(Activation activation, const float* up, size_t count, float* gate) {
  switch (activation) {
    case Activation::kGelu:
      return gate_with<Activation::kGelu>(up, count, gate);
    case Activation::kGeluTanh:
      return gate_with<Activation::kGeluTanh>(up, count, gate);
    case Activation::kRelu:
      return gate_with<Activation::kRelu>(up, count, gate);
    case Activation::kSilu:
      return gate_with<Activation::kSilu>(up, count, gate);
    case Activation::kNone:
      return gate_with<Activation::kNone>(up, count, gate);
  }
}

LEPTON_INLINE F half_lanes(const uint16_t* p) {
#ifdef LEPTON_HALF_PRODUCTS
  const __m256i v = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(v), 16))};
#else
  float lanes[kLanes];
  for (size_t i = 0; i < kLanes; ++i) lanes[i] = lepton::bfloat16_to_float(p[i]);
  return Simd::load(lanes);
#endif
}

LEPTON_INLINE void store_half(uint16_t* p, F v) {
#ifdef LEPTON_HALF_PRODUCTS
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                      reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(v.v)));
#else
  float lanes[kLanes];
  Simd::store(lanes, v);
  for (size_t i = 0; i < kLanes; ++i) p[i] = lepton::float_to_bfloat16(lanes[i]);
#endif
}

void to_half(const float* x, size_t count, uint16_t* y) {
  for (size_t i = 0; i < count; i += kLanes) store_half(y + i, Simd::load(x + i));
}

void from_half(const uint16_t* x, size_t count, float* y) {
  for (size_t i = 0; i < count; i += kLanes) Simd::store(y + i, half_lanes(x + i));
}
