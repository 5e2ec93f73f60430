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

// Codes sixteen values that are already divided by their group's scale.
template <class S>
LEPTON_INLINE void quantize_half(F scaled, float scale, size_t at, size_t half,
                                 const QuantizedRows& target) {
  const size_t first_value = at * kBlockColumns + half * 16;
  const I first = S::round(scaled);
  I whole = first;
  if (target.planes == 2) {
    const F rest = S::sub(scaled, S::to_float(first));
    const I second = S::round(S::min(S::mul(rest, S::set1(256.0f)), S::set1(127.0f)));
    whole = S::add(S::template shift_left<8>(first), second);
    if constexpr (!S::kWords) S::store_int8(target.values[1] + first_value, second);
  }
  if constexpr (S::kWords) S::store_words(target.words + first_value, whole);
  if (!S::kWords || target.planes == 1) S::store_int8(target.values[0] + first_value, first);
  const int32_t sum = S::sum(whole);
  target.integer_sums[at * 2 + half] = sum;
  target.sums[at * 2 + half] = scale * static_cast<float>(sum);
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
    const float step = zero_group ? 0.0f : largest / (target.planes == 2 ? 32512.0f : 127.0f);
    const size_t at = block * target.rows + row;
    target.scales[at] = step;
    // The limits matter for NaN alone, which the scale carries on.
    const auto limited = [&](F v) {
      return Simd::min(Simd::max(Simd::mul(v, Simd::set1(inverse)), Simd::set1(-127.0f)),
                       Simd::set1(127.0f));
    };
    quantize_half<Simd>(limited(a), step, at, 0, target);
    quantize_half<Simd>(limited(b), step, at, 1, target);
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
