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

// Stores 32 codes and sums them by halves, in one go where an instruction set knows how.
template <class S>
LEPTON_INLINE void store_and_sum(int8_t* p, I a, I b, int32_t (&sums)[2]) {
  if constexpr (requires { S::store_and_sum(p, a, b, sums); }) {
    S::store_and_sum(p, a, b, sums);
  } else {
    S::store_int8(p, a);
    S::store_int8(p + 16, b);
    sums[0] = S::sum(a);
    sums[1] = S::sum(b);
  }
}

// Codes 32 values that are already divided by their group's scale, and gives the sums of n over its
// halves. Adaptive planes count as one until choose_refined() says otherwise.
template <class S>
LEPTON_INLINE void quantize_block(F a, F b, size_t at, const QuantizedRows& target,
                                  int32_t (&sums)[2]) {
  const size_t first_value = at * kBlockColumns;
  const I first_a = S::round(a), first_b = S::round(b);
  store_and_sum<S>(target.values[0] + first_value, first_a, first_b, sums);
  I whole_a = first_a, whole_b = first_b;
  if (target.planes != Planes::kOne) {
    const auto rest = [](F scaled, I first) {
      const F steps = S::mul(S::sub(scaled, S::to_float(first)), S::set1(256.0f));
      return S::round(S::min(steps, S::set1(127.0f)));
    };
    const I second_a = rest(a, first_a), second_b = rest(b, first_b);
    int32_t second_sums[2] = {0, 0};
    if (target.planes == Planes::kTwo) {
      store_and_sum<S>(target.values[1] + first_value, second_a, second_b, second_sums);
    } else {
      S::store_int8(target.values[1] + first_value, second_a);
      S::store_int8(target.values[1] + first_value + 16, second_b);
    }
    for (int half = 0; half < 2; ++half) sums[half] = 256 * sums[half] + second_sums[half];
    if constexpr (S::kWords) {
      whole_a = S::add(S::template shift_left<8>(first_a), second_a);
      whole_b = S::add(S::template shift_left<8>(first_b), second_b);
    }
  }
  if constexpr (S::kWords) {
    if (target.words == nullptr) return;
    S::store_words(target.words + first_value, whole_a);
    S::store_words(target.words + first_value + 16, whole_b);
  }
}

LEPTON_INLINE void set_sums(size_t at, const int32_t (&halves)[2], const QuantizedRows& target) {
  const float scale = target.scales[at];
  int32_t* integer_sums = target.integer_sums + at * target.kSums;
  float* sums = target.sums + at * target.kSums;
  for (int half = 0; half < 2; ++half) {
    integer_sums[half] = halves[half];
    sums[half] = scale * static_cast<float>(halves[half]);
  }
  integer_sums[2] = halves[0] + halves[1];
  sums[2] = sums[0] + sums[1];
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
    int32_t halves[2];
    quantize_block<Simd>(limited(a), limited(b), at, target, halves);
    set_sums(at, halves, target);
  }
}

// Rounding errors of a block are in proportion to its scale, and a few blocks have most of the sum
// of their squares: a block keeps its second plane where its squared scale is so many times the
// row's mean.
constexpr float kRefinedAbove = 8.0f;

// Lets the second plane of a block count.
void keep_second(size_t at, const QuantizedRows& target) {
  const int8_t* first = target.values[0] + at * kBlockColumns;
  const int8_t* second = target.values[1] + at * kBlockColumns;
  int32_t halves[2] = {0, 0};
  for (size_t i = 0; i < kBlockColumns; ++i) halves[i / 16] += 256 * first[i] + second[i];
  set_sums(at, halves, target);
}

// Rounds words, which are 256 · first + second, to their first plane.
LEPTON_INLINE void drop_second(int16_t* words) {
  for (size_t i = 0; i < kBlockColumns; ++i)
    words[i] = static_cast<int16_t>((words[i] + 128) >> 8 << 8);
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
    const bool refined = scale * scale >= limit && limit > 0.0f;
    target.refined[at] = refined;
    if (__builtin_expect(refined, false))
      keep_second(at, target);
    else if (Simd::kWords && target.words != nullptr)
      drop_second(target.words + at * kBlockColumns);
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
