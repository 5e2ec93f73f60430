// Products of rows with panels. Part of encoder_kernels.inl.
//
// A tile of R rows × P panels keeps its R · P sums in registers and passes once along the inputs:
// each step loads P vectors of weights and broadcasts R times four bytes. With 12 × 2 sums, 24 of
// 32 registers wait for no one, and a step has 24 products to 14 loads.

#ifdef LEPTON_HALF_PRODUCTS
constexpr bool kHalfProducts = true;
#else
constexpr bool kHalfProducts = false;
#endif

// A step starts sums, loads weights and adds their products with four bytes of a row; whole() is
// the sum of products of a column without what operands were moved by.
struct FloatStep {
  static constexpr size_t kElement = 4, kInputs = 1;
  static constexpr bool kInteger = false;
  using Sum = F;
  using Weights = F;
  static LEPTON_INLINE Sum start() { return zero(); }
  static LEPTON_INLINE Weights load(const uint8_t* p) {
    return Simd::load(reinterpret_cast<const float*>(p));
  }
  static LEPTON_INLINE Sum add(Sum sum, const Weights& weights, const uint8_t* four) {
    float x;
    __builtin_memcpy(&x, four, sizeof x);
    return Simd::fma(weights, Simd::set1(x), sum);
  }
};

#ifdef LEPTON_HALF_PRODUCTS
struct HalfStep {
  static constexpr size_t kElement = 2, kInputs = 2;
  static constexpr bool kInteger = false;
  using Sum = F;
  using Weights = __m512i;
  static LEPTON_INLINE Sum start() { return zero(); }
  static LEPTON_INLINE Weights load(const uint8_t* p) { return _mm512_loadu_si512(p); }
  static LEPTON_INLINE Sum add(Sum sum, const Weights& weights, const uint8_t* four) {
    int32_t pair;
    __builtin_memcpy(&pair, four, sizeof pair);
    return {_mm512_dpbf16_ps(sum.v, reinterpret_cast<__m512bh>(weights),
                             reinterpret_cast<__m512bh>(_mm512_set1_epi32(pair)))};
  }
};
#endif

struct ByteStep {
  static constexpr size_t kElement = 1, kInputs = 4;
  static constexpr bool kInteger = true;
  using Sum = I;
  using Weights = B;
  static LEPTON_INLINE Sum start() { return Simd::set1(0); }
#ifdef LEPTON_UNSIGNED_STATES
  static LEPTON_INLINE Weights load(const uint8_t* p) { return Simd::load_bytes(p); }
  static LEPTON_INLINE Sum add(Sum sum, const Weights& weights, const uint8_t* four) {
    return Simd::dot_unsigned(sum, weights, four);
  }
  static LEPTON_INLINE I whole(Sum sum, const DenseProduct& product, size_t column, int32_t) {
    return Simd::add(sum, Simd::load_int32(product.starts + column));
  }
#else
  static LEPTON_INLINE Weights load(const uint8_t* p) {
    return Simd::signed_operand(Simd::load_bytes(p));
  }
  static LEPTON_INLINE Sum add(Sum sum, const Weights& weights, const uint8_t* four) {
    return Simd::dot_s8(sum, weights, reinterpret_cast<const int8_t*>(four));
  }
  static LEPTON_INLINE I whole(Sum sum, const DenseProduct&, size_t, int32_t row_sum) {
    return Simd::add(sum, Simd::set1(-Simd::kSignedBias * row_sum));
  }
#endif
};

struct WordStep {
  static constexpr size_t kElement = 2, kInputs = 2;
  static constexpr bool kInteger = true;
  using Sum = I;
  using Weights = B;
  static LEPTON_INLINE Sum start() { return Simd::set1(0); }
  static LEPTON_INLINE Weights load(const uint8_t* p) { return Simd::load_bytes(p); }
  static LEPTON_INLINE Sum add(Sum sum, const Weights& weights, const uint8_t* four) {
    return Simd::dot_words(sum, weights, reinterpret_cast<const int16_t*>(four));
  }
  static LEPTON_INLINE I whole(Sum sum, const DenseProduct&, size_t, int32_t) { return sum; }
};

// Sums of `R` rows at `a` with `P` panels at `w`, to result [R, P]. They stay in registers because
// nothing else knows where `sums` lies. With `Ahead` the panels behind these are fetched into the
// second-level cache meanwhile: a few rows pass over weights faster than the hardware, which stops
// at the end of every page, brings them.
template <class Step, int R, int P, bool Ahead>
LEPTON_INLINE void sum_tile(const uint8_t* a, size_t a_stride, const uint8_t* w, size_t w_stride,
                            size_t steps, typename Step::Sum* result) {
  typename Step::Sum sums[R][P];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) sums[r][p] = Step::start();
  for (size_t k = 0; k < steps; ++k) {
    typename Step::Weights weights[P];
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) {
      weights[p] = Step::load(w + static_cast<size_t>(p) * w_stride + k * kStepBytes);
      if constexpr (Ahead)
        __builtin_prefetch(w + static_cast<size_t>(p + P) * w_stride + k * kStepBytes, 0, 2);
    }
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const uint8_t* four = a + static_cast<size_t>(r) * a_stride + k * 4;
#pragma GCC unroll 4
      for (int p = 0; p < P; ++p) sums[r][p] = Step::add(sums[r][p], weights[p], four);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) result[r * P + p] = sums[r][p];
}

constexpr size_t kTileRows = Simd::kFloatRows, kTilePanels = Simd::kPanelTile;

// What a tile's sums become: sixteen outputs of a row.
template <class Step, Activation A>
LEPTON_INLINE void finish(const DenseProduct& product, size_t row, size_t panel,
                          typename Step::Sum sum) {
  const size_t column = panel * kLanes;
  const F bias = Simd::load(product.bias + column);
  F value;
  if constexpr (Step::kInteger) {
    const QuantizedRow& input = product.quantized[row];
    const F offset = Simd::fma(Simd::set1(input.middle), Simd::load(product.sums + column), bias);
    const F scale = Simd::mul(Simd::load(product.scales + column), Simd::set1(input.scale));
    const I whole = Step::whole(sum, product, column, input.sum);
    value = Simd::fma(Simd::to_float(whole), scale, offset);
  } else {
    value = Simd::add(sum, bias);
  }
  uint8_t* output = product.output + row * product.output_stride;
  if (product.half_output) {
    value = A == Activation::kGelu ? gelu_roughly(value) : activate<A>(value);
    store_half(reinterpret_cast<uint16_t*>(output) + column, value);
  } else {
    Simd::store(reinterpret_cast<float*>(output) + column, activate<A>(value));
  }
}

template <class Step, Activation A>
void finish_tile(const DenseProduct& product, size_t row, size_t rows, size_t panel, size_t panels,
                 const typename Step::Sum* sums) {
  for (size_t r = 0; r < rows; ++r)
    for (size_t p = 0; p < panels; ++p)
      finish<Step, A>(product, row + r, panel + p, sums[r * panels + p]);
}

template <class Step, int R, int P>
void product_tile(const DenseProduct& product, size_t row, size_t panel) {
  typename Step::Sum sums[R][P];
  sum_tile<Step, R, P, true>(product.input + row * product.input_stride, product.input_stride,
                             product.panels + panel * product.panel_bytes, product.panel_bytes,
                             product.steps, sums[0]);
  const auto finish_with = [&]<Activation A>() {
    finish_tile<Step, A>(product, row, R, panel, P, sums[0]);
  };
  switch (product.activation) {
    case Activation::kNone:
      return finish_with.template operator()<Activation::kNone>();
    case Activation::kGelu:
      return finish_with.template operator()<Activation::kGelu>();
    case Activation::kGeluTanh:
      return finish_with.template operator()<Activation::kGeluTanh>();
    case Activation::kRelu:
      return finish_with.template operator()<Activation::kRelu>();
    case Activation::kSilu:
      return finish_with.template operator()<Activation::kSilu>();
  }
}

template <class Step, int R, int P>
LEPTON_INLINE void product_rows(const DenseProduct& product, size_t rows, size_t row,
                                size_t panel) {
  if (rows == static_cast<size_t>(R)) return product_tile<Step, R, P>(product, row, panel);
  if constexpr (R > 1) product_rows<Step, R - 1, P>(product, rows, row, panel);
}

// All rows against `P` panels, in tiles of about the same size.
template <class Step, int P>
void product_panels(const DenseProduct& product, size_t panel) {
  const size_t tiles = (product.rows + kTileRows - 1) / kTileRows;
  for (size_t t = 0; t < tiles; ++t) {
    const size_t row = product.rows * t / tiles, end = product.rows * (t + 1) / tiles;
    product_rows<Step, static_cast<int>(kTileRows), P>(product, end - row, row, panel);
  }
}

template <class Step>
void multiply(const DenseProduct& product) {
  size_t panel = 0;
  for (; panel + kTilePanels <= product.num_panels; panel += kTilePanels)
    product_panels<Step, static_cast<int>(kTilePanels)>(product, panel);
  if constexpr (kTilePanels > 1)
    for (; panel < product.num_panels; ++panel) product_panels<Step, 1>(product, panel);
}

constexpr auto half_product() -> void (*)(const DenseProduct&) {
#ifdef LEPTON_HALF_PRODUCTS
  return multiply<HalfStep>;
#else
  return nullptr;
#endif
}
