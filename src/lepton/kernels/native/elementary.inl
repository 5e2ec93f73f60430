// Elementary functions of vectors. Included where F, I and Simd are known.

#define LEPTON_INLINE inline __attribute__((always_inline))

LEPTON_INLINE F zero() { return Simd::set1(0.0f); }

// e^x to within two units in the last place, for x clamped to [-87, 88]; a NaN stays one.
LEPTON_INLINE F exponential(F x) {
  const F clamped = Simd::min(Simd::set1(88.0f), Simd::max(Simd::set1(-87.0f), x));
  const I n = Simd::round(Simd::mul(clamped, Simd::set1(1.44269504f)));
  const F nf = Simd::to_float(n);
  // ln 2 in two parts keeps the remainder exact.
  F r = Simd::fma(nf, Simd::set1(-0.693359375f), clamped);
  r = Simd::fma(nf, Simd::set1(2.12194440e-4f), r);
  F p = Simd::set1(1.0f / 5040.0f);
  p = Simd::fma(p, r, Simd::set1(1.0f / 720.0f));
  p = Simd::fma(p, r, Simd::set1(1.0f / 120.0f));
  p = Simd::fma(p, r, Simd::set1(1.0f / 24.0f));
  p = Simd::fma(p, r, Simd::set1(1.0f / 6.0f));
  p = Simd::fma(p, r, Simd::set1(0.5f));
  p = Simd::fma(p, r, Simd::set1(1.0f));
  p = Simd::fma(p, r, Simd::set1(1.0f));
  return Simd::scale_by_power(p, n);
}
