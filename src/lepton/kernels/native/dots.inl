// How codes of weights meet activations. Part of kernels.inl.

// Quad `Q` of a block as 64 bytes: unsigned codes, or signed weights for the 8-bit and table types.
// `low_block` is the low plane of a split block.
template <Codes C, int Q>
LEPTON_INLINE B load_quad(const uint8_t* block, const uint8_t* low_block) {
  if constexpr (C == Codes::kS8) {
    return Simd::load_bytes(block + Q * 64);
  } else if constexpr (C == Codes::kSplit8) {
    constexpr int kShift = Q < 4 ? 4 : 0;
    const B high = Simd::template shift<kShift>(Simd::load_bytes(block + Q % 4 * 64));
    const B low = Simd::template shift<kShift - 4>(Simd::load_bytes(low_block + Q % 4 * 64));
    return Simd::bit_xor(Simd::bit_or(Simd::bit_and(high, 0xf0), Simd::bit_and(low, 15)), 0x80);
  } else if constexpr (C == Codes::kU2 || C == Codes::kU3) {
    const B low =
        Simd::bit_and(Simd::template shift<-(Q % 4) * 2>(Simd::load_bytes(block + Q / 4 * 64)), 3);
    if constexpr (C == Codes::kU2) return low;
    const B high = Simd::load_bytes(block + 128);
    return Simd::bit_or(low, Simd::bit_and(Simd::template shift<2 - Q>(high), 4));
  } else {
    B low = Simd::load_bytes(block + Q % 4 * 64);
    if constexpr (Q >= 4) low = Simd::template shift<-4>(low);
    low = Simd::bit_and(low, 15);
    if constexpr (C == Codes::kTable4) return Simd::lookup(lepton::kIq4Values, low);
    if constexpr (C == Codes::kU5) {
      const B high = Simd::load_bytes(block + 256);
      low = Simd::bit_or(low, Simd::bit_and(Simd::template shift<4 - Q>(high), 16));
    }
    if constexpr (C == Codes::kU6) {
      const B high = Simd::load_bytes(block + 256 + Q / 4 * 64);
      low = Simd::bit_or(low, Simd::bit_and(Simd::template shift<4 - Q % 4 * 2>(high), 48));
    }
    return low;
  }
}

template <Codes C>
constexpr bool kSigned = lepton::has_signed_codes(C);

template <Codes C>
constexpr int kLargestCode = C == Codes::kU2   ? 3
                             : C == Codes::kU3 ? 7
                             : C == Codes::kU4 ? 15
                             : C == Codes::kU5 ? 31
                             : C == Codes::kU6 ? 63
                                               : 255;

// How the codes of a block meet the activations of one row. Each way prepares a quad once for many
// rows, adds quads to a sum that starts at a given number, and finishes as sixteen floats: the
// exact sum of code · activation, an activation being first or 256 · first + second, times a scale.
// A sum of first numbers can be widened to whole ones, to which a second plane is then added.
// kVectors is how many sums of sixteen lanes one row keeps in registers; up to kFewRows rows take
// quads straight from memory, and where a block is one group, rows up to kFewParts times as many in
// so many parts. kHoldsFactors says whether scales and minimums find room in registers as well.

// Four-way byte products summed in 32 bits, one sum per plane.
template <class S, Codes C, int NumPlanes>
struct PlaneDot {
  using Weights = B;
  struct Sum {
    I plane[NumPlanes];
  };
  static constexpr bool kHoldsFactors = false;
  static constexpr int kOffset = kSigned<C> ? S::kSignedBias : 0;
  static constexpr int kVectors = NumPlanes;
  static constexpr int kFewRows = NumPlanes == 1 ? S::kFewRows : S::kFewWideRows;
  static constexpr int kFewParts = 1;
  // Integers below 2^22 that are added to the bits of 1.5 · 2^23 make the float 1.5 · 2^23 + n:
  // what is to be scaled needs no conversion.
  static constexpr bool kAsBits = NumPlanes == 1;
  static constexpr bool kWidens = NumPlanes == 1;
  static constexpr float kBitsBase = 12582912.0f;
  static constexpr int32_t kBitsOfBase = 0x4b400000;

  static LEPTON_INLINE Weights prepare(B quad) {
    return kSigned<C> ? S::signed_operand(quad) : quad;
  }
  static LEPTON_INLINE Sum start(int32_t value) {
    Sum sum;
    for (I& plane : sum.plane) plane = S::set1(0);
    sum.plane[NumPlanes - 1] = S::set1(kAsBits ? kBitsOfBase + value : value);
    return sum;
  }
  // All planes, or `Plane` alone where there is one sum.
  template <int Q, int Plane>
  static LEPTON_INLINE void add(Sum& sum, const Weights& weights, const QuantizedRows& x,
                                size_t at) {
    for (int p = 0; p < NumPlanes; ++p) {
      const int8_t* four = x.values[Plane + p] + at * kBlockColumns + Q * 4;
      if constexpr (kSigned<C>)
        sum.plane[p] = S::dot_s8(sum.plane[p], weights, four);
      else
        sum.plane[p] = S::dot(sum.plane[p], weights, four);
    }
  }
  // From a sum that started at `start` / 256, rounded down.
  static LEPTON_INLINE void widen(Sum& sum, int32_t start) {
    constexpr uint32_t kBase = static_cast<uint32_t>(kBitsOfBase) << 8;
    const auto rest = static_cast<int32_t>(static_cast<uint32_t>(start & 255) - kBase);
    sum.plane[0] = S::add(S::template shift_left<8>(sum.plane[0]), S::set1(rest));
  }
  static LEPTON_INLINE I whole(const Sum& sum) { return sum.plane[0]; }
  static LEPTON_INLINE F base(F scale) {
    return kAsBits ? S::mul(scale, S::set1(-kBitsBase)) : scale;
  }
  // `base` is base(scale): both it and the product before the sum are exact.
  static LEPTON_INLINE F finish(const Sum& sum, F scale, F base) {
    if constexpr (kAsBits) return S::fma(S::bits_to_float(sum.plane[0]), scale, base);
    return S::mul(
        S::to_float(S::add(S::template shift_left<8>(sum.plane[0]), sum.plane[NumPlanes - 1])),
        scale);
  }
};

// For instruction sets without four-way byte products: words times words, summed in pairs to 32
// bits. Both planes are one word.
template <class S, Codes C>
struct WordDot {
  struct Weights {
    typename S::W even, odd;
  };
  using Sum = I;
  static constexpr bool kHoldsFactors = true;
  static constexpr int kOffset = 0;
  static constexpr int kVectors = 1;
  static constexpr int kFewRows = S::kFewRows;
  static constexpr int kFewParts = 2;
  static constexpr bool kWidens = false;

  // The compiler would load them again for every row.
  static LEPTON_INLINE void hold(F& factor) { S::hold(factor); }
  static LEPTON_INLINE Weights prepare(B quad) {
    if constexpr (kSigned<C>) return {S::even_signed(quad), S::odd_signed(quad)};
    return {S::even_unsigned(quad), S::odd_unsigned(quad)};
  }
  static LEPTON_INLINE Sum start(int32_t value) { return S::set1(value); }
  template <int Q, int>
  static LEPTON_INLINE void add(Sum& sum, const Weights& weights, const QuantizedRows& x,
                                size_t at) {
    const int16_t* four = x.words + at * kBlockColumns + Q * 4;
    sum = S::add(sum, S::multiply_words(weights.even, four));
    sum = S::add(sum, S::multiply_words(weights.odd, four + 2));
  }
  static LEPTON_INLINE F base(F scale) { return scale; }
  static LEPTON_INLINE F finish(const Sum& sum, F scale, F) {
    return S::mul(S::to_float(sum), scale);
  }
};

// For the same and small codes: byte products in pairs, summed in 16 bits as long as they fit.
template <class S, Codes C, int GroupQuads>
struct PairDot {
  using Weights = B;
  struct Sum {
    I total;
    typename S::W pairs;
  };
  static constexpr bool kHoldsFactors = false;
  static constexpr int kOffset = 0;
  static constexpr bool kWidens = true;
  // Quads whose pairs of products fit in 16 bits together, as far as one group goes.
  static constexpr int kFit = 32767 / (kLargestCode<C> * 128 * 2);
  static constexpr int kQuads = kFit >= GroupQuads ? GroupQuads : kFit >= 4 ? 4 : 2;
  // Without an earlier part to be added to, the total need not be kept beside the pairs.
  static constexpr int kVectors = kQuads == GroupQuads ? 1 : 2;
  static constexpr int kFewRows = kVectors == 2 ? 4 : GroupQuads == 8 ? 5 : 6;
  static constexpr int kFewParts = kVectors == 1 ? 2 : 1;

  static LEPTON_INLINE Weights prepare(B quad) { return quad; }
  static LEPTON_INLINE Sum start(int32_t value) { return {S::set1(value), typename S::W{}}; }
  template <int Q, int Plane>
  static LEPTON_INLINE void add(Sum& sum, const Weights& weights, const QuantizedRows& x,
                                size_t at) {
    const int8_t* four = x.values[Plane] + at * kBlockColumns + Q * 4;
    S::template multiply_bytes<Q % kQuads != 0>(sum.pairs, weights, four);
    if constexpr (Q % kQuads == kQuads - 1) flush(sum);
  }
  static LEPTON_INLINE void flush(Sum& sum) {
    sum.total = S::add(sum.total, S::add_pairs(sum.pairs));
  }
  static LEPTON_INLINE void widen(Sum& sum, int32_t start) {
    sum.total = S::add(S::template shift_left<8>(sum.total), S::set1(start & 255));
  }
  static LEPTON_INLINE I whole(const Sum& sum) { return sum.total; }
  static LEPTON_INLINE F base(F scale) { return scale; }
  static LEPTON_INLINE F finish(const Sum& sum, F scale, F) {
    return S::mul(S::to_float(sum.total), scale);
  }
};

template <class Layout, Planes P>
constexpr auto choose_dot() {
  constexpr Codes kCodes = Layout::kCodes;
  if constexpr (!Simd::kWords)
    return PlaneDot<Simd, kCodes, P == Planes::kTwo ? 2 : 1>{};
  else if constexpr (P == Planes::kTwo || kSigned<kCodes>)
    return WordDot<Simd, kCodes>{};
  else
    return PairDot<Simd, kCodes, 8 / Layout::kGroups>{};
}
template <class Layout, Planes P>
using DotOf = decltype(choose_dot<Layout, P>());

// Whether sums are of first numbers, 256th parts of whole ones, and are widened where a row has a
// second plane.
template <class Dot, Planes P>
constexpr bool kWidens = P == Planes::kAdaptive && Dot::kWidens;
