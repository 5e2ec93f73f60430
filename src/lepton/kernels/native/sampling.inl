// Kernels over one row of logits, for sampling. Part of kernels.inl.

constexpr size_t kStretch = lepton::kStretch;

// Fills maxima [stretches, 16]: lane l of a stretch is the largest of its logits l, l + 16, …, or
// -infinity where it has none. False when a logit is not finite.
bool scan_logits(const float* x, size_t count, float* maxima) {
  F not_finite = zero();
  bool finite = true;
  for (size_t begin = 0; begin < count; begin += kStretch, maxima += 16) {
    const size_t end = begin + kStretch < count ? begin + kStretch : count;
    F most = Simd::set1(-__builtin_inff());
    size_t i = begin;
    for (; i + 16 <= end; i += 16) {
      const F v = Simd::load(x + i);
      most = Simd::max(most, v);
      not_finite = Simd::fma(v, zero(), not_finite);
    }
    Simd::store(maxima, most);
    for (; i < end; ++i) {
      float& lane = maxima[i % 16];
      if (x[i] > lane) lane = x[i];
      finite = finite && x[i] * 0.0f == 0.0f;
    }
  }
  return finite && Simd::sum_lanes(not_finite) == 0.0f;
}

// weights = e^((x - peak) · factor), 0 where that is below 2^-125; returns their sum. The two
// arrays may be one.
float weigh(const float* x, size_t count, float peak, float factor, float* weights) {
  const F peaks = Simd::set1(peak), factors = Simd::set1(factor), least = Simd::set1(0x1p-125f);
  const auto weight = [&](F v) {
    return Simd::keep_at_least(exponential(Simd::mul(Simd::sub(v, peaks), factors)), least);
  };
  F total = zero();
  size_t i = 0;
  for (; i + 16 <= count; i += 16) {
    const F w = weight(Simd::load(x + i));
    Simd::store(weights + i, w);
    total = Simd::add(total, w);
  }
  if (i < count) {
    float rest[16];
    for (size_t lane = 0; lane < 16; ++lane)
      rest[lane] = i + lane < count ? x[i + lane] : -__builtin_inff();
    const F w = weight(Simd::load(rest));
    Simd::store(rest, w);
    for (size_t lane = 0; i + lane < count; ++lane) weights[i + lane] = rest[lane];
    total = Simd::add(total, w);
  }
  return Simd::sum_lanes(total);
}

// The sum of all x >= limit, which is positive; adds to `number` how many there are.
float sum_at_least(const float* x, size_t count, float limit, size_t* number) {
  const F limits = Simd::set1(limit);
  F total = zero();
  int found = 0;
  size_t i = 0;
  for (; i + 16 <= count; i += 16) {
    const F v = Simd::load(x + i);
    total = Simd::add(total, Simd::keep_at_least(v, limits));
    found += __builtin_popcount(Simd::at_least(v, limits));
  }
  float sum = Simd::sum_lanes(total);
  for (; i < count; ++i) {
    if (!(x[i] >= limit)) continue;
    sum += x[i];
    ++found;
  }
  *number += static_cast<size_t>(found);
  return sum;
}

// Writes the places of all x >= limit in ascending order; returns how many there are.
size_t collect(const float* x, size_t count, float limit, int32_t* places) {
  const F limits = Simd::set1(limit);
  size_t found = 0;
  size_t i = 0;
  for (; i + 16 <= count; i += 16)
    for (uint32_t kept = Simd::at_least(Simd::load(x + i), limits); kept != 0; kept &= kept - 1)
      places[found++] = static_cast<int32_t>(i) + __builtin_ctz(kept);
  for (; i < count; ++i)
    if (x[i] >= limit) places[found++] = static_cast<int32_t>(i);
  return found;
}
