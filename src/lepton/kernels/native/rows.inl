// Kernels that work on one row of floats: norms, activations, quantization. Part of kernels.inl.

void rms_norm(const float* x, const float* weight, float epsilon, size_t columns, size_t stride,
              float* y) {
  F squares = zero();
  size_t i = 0;
  for (; i + 16 <= columns; i += 16) {
    const F v = Simd::load(x + i);
    squares = Simd::fma(v, v, squares);
  }
  float total = Simd::sum_lanes(squares);
  for (size_t j = i; j < columns; ++j) total += x[j] * x[j];
  const float factor = 1.0f / __builtin_sqrtf(total / static_cast<float>(columns) + epsilon);
  const F factors = Simd::set1(factor);
  i = 0;
  for (; i + 16 <= columns; i += 16)
    Simd::store(y + i, Simd::mul(Simd::mul(Simd::load(x + i), factors), Simd::load(weight + i)));
  for (; i < columns; ++i) y[i] = x[i] * factor * weight[i];
  for (; i < stride; ++i) y[i] = 0.0f;
}

// Codes sixteen values that are already divided by their group's scale, and returns the sum of n.
template <class S>
LEPTON_INLINE int32_t quantize_half(F scaled, size_t at, size_t half, const QuantizedRows& target) {
  const size_t first_value = at * kBlockColumns + half * 16;
  const I first = S::round(scaled);
  I whole = first;
  if (target.planes != Planes::kOne) {
    const F rest = S::sub(scaled, S::to_float(first));
    const I second = S::round(S::min(S::mul(rest, S::set1(256.0f)), S::set1(127.0f)));
    whole = S::add(S::template shift_left<8>(first), second);
    S::store_int8(target.values[1] + first_value, second);
  }
  if constexpr (S::kWords) S::store_words(target.words + first_value, whole);
  S::store_int8(target.values[0] + first_value, first);
  return S::sum(whole);
}

void quantize_row(const float* x, size_t row, size_t begin, size_t end, const QuantizedRows& rows) {
  const QuantizedRows target = rows;  // a copy, which stores of codes cannot alias
  for (size_t block = begin; block < end; ++block, x += kBlockColumns) {
    const F a = Simd::load(x);
    const F b = Simd::load(x + 16);
    const float largest = Simd::largest_magnitude(a, b);
    // Below 2^-110 a scale would be subnormal or its inverse infinite: such a group is zero.
    const bool zero_group = largest < 0x1p-110f;
    const float inverse = zero_group ? 0.0f : 127.0f / largest;
    const float step =
        zero_group ? 0.0f : largest / (target.planes == Planes::kOne ? 127.0f : 32512.0f);
    const size_t at = block * target.rows + row;
    target.scales[at] = step;
    // The limits matter for NaN alone, which the scale carries on.
    const auto limited = [&](F v) {
      return Simd::min(Simd::max(Simd::mul(v, Simd::set1(inverse)), Simd::set1(-127.0f)),
                       Simd::set1(127.0f));
    };
    const int32_t first = quantize_half<Simd>(limited(a), at, 0, target);
    const int32_t second = quantize_half<Simd>(limited(b), at, 1, target);
    int32_t* integer_sums = target.integer_sums + at * target.kSums;
    float* sums = target.sums + at * target.kSums;
    integer_sums[0] = first;
    integer_sums[1] = second;
    integer_sums[2] = first + second;
    sums[0] = step * static_cast<float>(first);
    sums[1] = step * static_cast<float>(second);
    sums[2] = sums[0] + sums[1];
  }
}

// Rounding errors of a block are in proportion to its scale, and a few blocks have most of the sum
// of their squares: a block keeps its second plane where its squared scale is so many times the
// row's mean.
constexpr float kRefinedAbove = 8.0f;

// Leaves a block of a row with one plane.
LEPTON_INLINE void drop_second(size_t at, const QuantizedRows& target) {
  const float scale = target.scales[at];
  int32_t* integer_sums = target.integer_sums + at * target.kSums;
  float* sums = target.sums + at * target.kSums;
  const int8_t* first = target.values[0] + at * kBlockColumns;
  for (size_t half = 0; half < 2; ++half) {
    int32_t sum = 0;
    for (size_t i = half * 16; i < half * 16 + 16; ++i) sum += first[i];
    integer_sums[half] = 256 * sum;
    sums[half] = scale * static_cast<float>(256 * sum);
  }
  integer_sums[2] = integer_sums[0] + integer_sums[1];
  sums[2] = sums[0] + sums[1];
  if constexpr (Simd::kWords) {
    // A word is 256 · first + second.
    int16_t* words = target.words + at * kBlockColumns;
    for (size_t i = 0; i < kBlockColumns; ++i)
      words[i] = static_cast<int16_t>((words[i] + 128) >> 8 << 8);
  }
}

void choose_refined(size_t row, const QuantizedRows& rows) {
  const QuantizedRows target = rows;  // a copy, which stores of codes cannot alias
  const size_t blocks = target.columns / kBlockColumns;
  float total = 0.0f;
  for (size_t block = 0; block < blocks; ++block) {
    const float scale = target.scales[block * target.rows + row];
    total += scale * scale;
  }
  const float limit = kRefinedAbove / static_cast<float>(blocks) * total;
  for (size_t block = 0; block < blocks; ++block) {
    const size_t at = block * target.rows + row;
    const float scale = target.scales[at];
    target.refined[at] = scale * scale >= limit && limit > 0.0f;
    if (target.refined[at] == 0) drop_second(at, target);
  }
}

void silu_gate(const float* gate, const float* up, size_t count, float* y) {
  const F one = Simd::set1(1.0f);
  for (size_t i = 0; i < count; i += 16) {
    const F g = Simd::load(gate + i);
    const F sigmoid = Simd::div(g, Simd::add(one, exponential(Simd::sub(zero(), g))));
    Simd::store(y + i, Simd::mul(sigmoid, Simd::load(up + i)));
  }
}

// gelu(g) = g · sigmoid(2 √(2/π) (g + 0.044715 g³)), the tanh form of arXiv:1606.08415.
void gelu_tanh_gate(const float* gate, const float* up, size_t count, float* y) {
  const F one = Simd::set1(1.0f);
  for (size_t i = 0; i < count; i += 16) {
    const F g = Simd::load(gate + i);
    const F cube = Simd::mul(Simd::mul(g, g), g);
    const F inner = Simd::fma(cube, Simd::set1(0.044715f), g);
    const F power = exponential(Simd::mul(inner, Simd::set1(-1.595769122f)));
    Simd::store(y + i, Simd::mul(Simd::div(g, Simd::add(one, power)), Simd::load(up + i)));
  }
}
