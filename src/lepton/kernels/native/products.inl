// Matrix products. Part of kernels.inl.

// Scale and minimum of one group of a block, for sixteen outputs.
template <class Layout>
LEPTON_INLINE void load_scales(const uint8_t* super, const uint8_t* block, int group, F& scale,
                               F& minimum) {
  const uint8_t* scales = block + Layout::kCodeBytes;
  const auto half = [](const uint8_t* p) {
    return Simd::load_f16(reinterpret_cast<const uint16_t*>(p));
  };
  if constexpr (Layout::kHasSuper) {
    const uint8_t* multiplier = scales + group * 16;
    scale = Simd::mul(half(super), Layout::kSignedMultipliers ? Simd::load_s8(multiplier)
                                                              : Simd::load_u8(multiplier));
    if constexpr (Layout::kHasMinimum)
      minimum = Simd::sub(
          zero(), Simd::mul(half(super + 32), Simd::load_u8(multiplier + Layout::kGroups * 16)));
  } else {
    scale = half(scales);
    if constexpr (Layout::kHasMinimum) minimum = half(scales + 32);
  }
}

// One block of one panel, prepared for many rows. Scales are those of sums, so 256 times the
// weights' where sums are of 256th parts.
template <class Layout, class Dot>
struct PreparedBlock {
  typename Dot::Weights quads[8];
  F scale[Layout::kGroups], base[Layout::kGroups], minimum[Layout::kGroups];

  template <int Q>
  LEPTON_INLINE const typename Dot::Weights& quad() const {
    return quads[Q];
  }
};

// The same, its quads left packed until they are used.
template <class Layout, class Dot>
struct PackedBlock {
  const uint8_t *codes, *low;
  F scale[Layout::kGroups], base[Layout::kGroups], minimum[Layout::kGroups];

  template <int Q>
  LEPTON_INLINE typename Dot::Weights quad() const {
    return Dot::prepare(load_quad<Layout::kCodes, Q>(codes, low));
  }
};

template <Planes P, class Layout, class Dot, template <class, class> class Block>
LEPTON_INLINE void load_factors(const uint8_t* super, const uint8_t* block,
                                Block<Layout, Dot>& target) {
  for (int g = 0; g < Layout::kGroups; ++g) {
    load_scales<Layout>(super, block, g, target.scale[g], target.minimum[g]);
    if constexpr (kWidens<Dot, P>) target.scale[g] = Simd::mul(target.scale[g], Simd::set1(256.0f));
    target.base[g] = Dot::base(target.scale[g]);
  }
}

template <class Layout, class Dot, int Q = 0>
LEPTON_INLINE void prepare_quads(const uint8_t* codes, const uint8_t* low,
                                 PreparedBlock<Layout, Dot>& target) {
  target.quads[Q] = Dot::prepare(load_quad<Layout::kCodes, Q>(codes, low));
  if constexpr (Q + 1 < 8) prepare_quads<Layout, Dot, Q + 1>(codes, low, target);
}

// Adds quads Begin … End - 1 of `Panels` blocks, times activations from `Plane` on, to the sums of
// `Rows` rows.
template <class Dot, int Begin, int End, int Plane, int Rows, int Panels, class Block>
LEPTON_INLINE void add_quads(const QuantizedRows& x, size_t at, const Block (&blocks)[Panels],
                             typename Dot::Sum (&sums)[Rows][Panels]) {
  typename Dot::Weights weights[Panels];
  for (int p = 0; p < Panels; ++p) weights[p] = blocks[p].template quad<Begin>();
  for (int r = 0; r < Rows; ++r)
    for (int p = 0; p < Panels; ++p)
      Dot::template add<Begin, Plane>(sums[r][p], weights[p], x, at + static_cast<size_t>(r));
  if constexpr (Begin + 1 < End) add_quads<Dot, Begin + 1, End, Plane>(x, at, blocks, sums);
}

// The sums of one row widened, with its second plane, and finished.
template <class Dot, int Begin, int End, int Panels, class Block>
LEPTON_INLINE void finish_refined(const QuantizedRows& x, size_t at, int32_t start,
                                  const Block (&blocks)[Panels], const F (&scales)[Panels],
                                  const typename Dot::Sum (&sums)[Panels], F (&dots)[Panels]) {
  typename Dot::Sum row[1][Panels];
  for (int p = 0; p < Panels; ++p) {
    row[0][p] = sums[p];
    Dot::widen(row[0][p], start);
  }
  add_quads<Dot, Begin, End, 1>(x, at, blocks, row);
  for (int p = 0; p < Panels; ++p)
    dots[p] = Simd::mul(Simd::to_float(Dot::whole(row[0][p])),
                        Simd::mul(scales[p], Simd::set1(1.0f / 256.0f)));
}

// Adds group `G` and those after it of one block of `Panels` panels to the totals of `Rows` rows.
// `at` is where the first row's activations of this block lie.
template <class Layout, class Dot, Planes P, int G, int Rows, int Panels, class Block>
LEPTON_INLINE void add_groups(const QuantizedRows& x, size_t at, const Block (&blocks)[Panels],
                              F* totals) {
  constexpr int kBegin = G * (8 / Layout::kGroups), kEnd = (G + 1) * (8 / Layout::kGroups);
  constexpr int kOffset = Layout::kOffset + Dot::kOffset;
  constexpr size_t kSum = Layout::kGroups == 2 ? G : 2;
  const auto start = [&](int r) __attribute__((always_inline)) {
    return -kOffset * x.integer_sums[(at + static_cast<size_t>(r)) * x.kSums + kSum];
  };
  typename Dot::Sum sums[Rows][Panels];
  for (int r = 0; r < Rows; ++r)
    for (int p = 0; p < Panels; ++p)
      sums[r][p] = Dot::start(kWidens<Dot, P> ? start(r) >> 8 : start(r));
  add_quads<Dot, kBegin, kEnd, 0>(x, at, blocks, sums);
  F scales[Panels], minimums[Panels];
  for (int p = 0; p < Panels; ++p) {
    scales[p] = blocks[p].scale[G];
    if constexpr (Dot::kHoldsFactors) Dot::hold(scales[p]);
    if constexpr (Layout::kHasMinimum) {
      minimums[p] = blocks[p].minimum[G];
      if constexpr (Dot::kHoldsFactors) Dot::hold(minimums[p]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < Rows; ++r) {
    const size_t row = at + static_cast<size_t>(r);
    F dots[Panels];
    bool refined = false;
    if constexpr (kWidens<Dot, P>) refined = x.refined[row] != 0;
    if (__builtin_expect(refined, false)) {
      if constexpr (kWidens<Dot, P>)
        finish_refined<Dot, kBegin, kEnd>(x, row, start(r), blocks, scales, sums[r], dots);
    } else {
      for (int p = 0; p < Panels; ++p)
        dots[p] = Dot::finish(sums[r][p], scales[p], blocks[p].base[G]);
    }
    const F row_scale = Simd::set1(x.scales[row]);
    for (int p = 0; p < Panels; ++p) {
      F& total = totals[r * Panels + p];
      total = Simd::fma(dots[p], row_scale, total);
      if constexpr (Layout::kHasMinimum)
        total = Simd::fma(minimums[p], Simd::set1(x.sums[row * x.kSums + kSum]), total);
    }
  }
  if constexpr (G + 1 < Layout::kGroups)
    add_groups<Layout, Dot, P, G + 1, Rows, Panels>(x, at, blocks, totals);
}

// Calls visit(super, block, index) for the blocks of a panel in order.
template <class Layout, class Visit>
LEPTON_INLINE void visit_blocks(const uint8_t* panel, size_t count, const Visit& visit) {
  const uint8_t* super = panel;
  for (size_t b = 0; b < count; super += Layout::kSuperBytes) {
    const uint8_t* block = super + Layout::kSuperHeader;
    for (int i = 0; i < Layout::kBlocksPerSuper; ++i, ++b, block += Layout::kBlockBytes)
      visit(super, block, b);
  }
}

// The low plane of a block; null where the layout has none.
template <class Layout>
LEPTON_INLINE const uint8_t* low_block(const Product& product, size_t panel, size_t block) {
  if constexpr (Layout::kCodes != Codes::kSplit8) return nullptr;
  return product.low + (panel * (product.columns / kBlockColumns) + block) * lepton::kLowBlockBytes;
}

LEPTON_INLINE F initial_sum(const Product& product, size_t panel) {
  return product.bias ? Simd::load(product.bias + panel * kPanelRows) : zero();
}

LEPTON_INLINE void finish_row(const Product& product, size_t row, size_t panel, F sum) {
  float* out =
      product.output + (row - product.row_begin) * product.output_stride + panel * kPanelRows;
  Simd::store(out, product.accumulate ? Simd::add(Simd::load(out), sum) : sum);
}

// Blocks between the one at work and the one asked for, when memory is what a product waits for.
constexpr size_t kBlocksAhead = 12;

// Asks for `Bytes` bytes that will probably be read soon; at the end of a matrix they may lie
// behind it, which does no harm.
template <size_t Bytes>
LEPTON_INLINE void prefetch(const uint8_t* p) {
  for (size_t i = 0; i < Bytes; i += 64) __builtin_prefetch(p + i, 0, 2);
}

// A few rows: codes go from memory to registers, totals stay there.
template <class Layout, class Dot, Planes P, int Rows>
void multiply_few(const Product& product, size_t panel, size_t row) {
  const QuantizedRows& x = *product.quantized;
  F totals[Rows];
  for (F& total : totals) total = initial_sum(product, panel);
  visit_blocks<Layout>(
      product.panels + panel * product.panel_bytes, x.columns / kBlockColumns,
      [&](const uint8_t* super, const uint8_t* block, size_t b) __attribute__((always_inline)) {
        PackedBlock<Layout, Dot> packed[1] = {
            {block, low_block<Layout>(product, panel, b), {}, {}, {}}};
        prefetch<Layout::kBlockBytes>(block + kBlocksAhead * Layout::kBlockBytes);
        if constexpr (Layout::kCodes == Codes::kSplit8)
          prefetch<lepton::kLowBlockBytes>(packed[0].low + kBlocksAhead * lepton::kLowBlockBytes);
        load_factors<P>(super, block, packed[0]);
        add_groups<Layout, Dot, P, 0, Rows, 1>(x, b * x.rows + row, packed, totals);
      });
  for (int r = 0; r < Rows; ++r)
    finish_row(product, row + static_cast<size_t>(r), panel, totals[r]);
}

// The same for a number of rows that is at most `Rows`.
template <class Layout, class Dot, Planes P, int Rows>
LEPTON_INLINE void multiply_part(const Product& product, size_t panel, size_t row, size_t rows) {
  if (rows == Rows) return multiply_few<Layout, Dot, P, Rows>(product, panel, row);
  if constexpr (Rows > 1) multiply_part<Layout, Dot, P, Rows - 1>(product, panel, row, rows);
}

// Adds one block of `Panels` panels to the totals of `rows` rows, `Tile` (a power of two) at a
// time.
template <class Layout, class Dot, Planes P, size_t Tile, int Panels, class Block>
LEPTON_INLINE void add_rows(const QuantizedRows& x, size_t at, size_t rows,
                            const Block (&blocks)[Panels], F* totals) {
  for (; rows >= Tile; rows -= Tile, at += Tile, totals += Tile * Panels)
    add_groups<Layout, Dot, P, 0, static_cast<int>(Tile), Panels>(x, at, blocks, totals);
  if constexpr (Tile > 1) add_rows<Layout, Dot, P, Tile / 2, Panels>(x, at, rows, blocks, totals);
}

// Many rows: each block is prepared once in the first-level cache, then all rows pass. The time
// they take is enough for the same block of the next panels to arrive.
template <class Layout, class Dot, Planes P, int Panels>
void multiply_many(const Product& product, size_t panel) {
  constexpr bool kWide = Panels * Dot::kVectors > static_cast<int>(Simd::kPanelTile);
  constexpr size_t kTile = kWide ? Simd::kRowTile / 2 : Simd::kRowTile;
  const QuantizedRows& x = *product.quantized;
  const size_t rows = product.row_end - product.row_begin;
  const size_t panel_bytes = product.panel_bytes;
  F totals[lepton::kRowBlock * Panels];
  for (size_t r = 0; r < rows; ++r)
    for (size_t p = 0; p < Panels; ++p) totals[r * Panels + p] = initial_sum(product, panel + p);
  const uint8_t* first = product.panels + panel * panel_bytes;
  visit_blocks<Layout>(
      first, x.columns / kBlockColumns,
      [&](const uint8_t* super, const uint8_t* block, size_t b) __attribute__((always_inline)) {
        PreparedBlock<Layout, Dot> prepared[Panels];
        for (size_t p = 0; p < Panels; ++p) {
          prefetch<Layout::kBlockBytes>(block + (Panels + p) * panel_bytes);
          if constexpr (Layout::kCodes == Codes::kSplit8)
            prefetch<lepton::kLowBlockBytes>(low_block<Layout>(product, panel + Panels + p, b));
          load_factors<P>(super + p * panel_bytes, block + p * panel_bytes, prepared[p]);
          prepare_quads<Layout, Dot>(block + p * panel_bytes,
                                     low_block<Layout>(product, panel + p, b), prepared[p]);
        }
        const size_t at = b * x.rows + product.row_begin;
        add_rows<Layout, Dot, P, kTile, Panels>(x, at, rows, prepared, totals);
      });
  for (size_t r = 0; r < rows; ++r)
    for (size_t p = 0; p < Panels; ++p)
      finish_row(product, product.row_begin + r, panel + p, totals[r * Panels + p]);
}

// Two inputs' weights of a panel.
template <TensorType T>
LEPTON_INLINE void load_pair(const uint8_t* panel, size_t k, F& first, F& second) {
  if constexpr (T == TensorType::kBF16) {
    Simd::load_bf16_pairs(reinterpret_cast<const uint16_t*>(panel) + k * 16, first, second);
  } else if constexpr (T == TensorType::kF16) {
    first = Simd::load_f16(reinterpret_cast<const uint16_t*>(panel) + k * 16);
    second = Simd::load_f16(reinterpret_cast<const uint16_t*>(panel) + k * 16 + 16);
  } else {
    first = Simd::load(reinterpret_cast<const float*>(panel) + k * 16);
    second = Simd::load(reinterpret_cast<const float*>(panel) + k * 16 + 16);
  }
}

template <TensorType T, int Rows, int Panels>
void float_tile(const Product& product, size_t panel, size_t row) {
  const uint8_t* weights = product.panels + panel * product.panel_bytes;
  const float* x = product.input + row * product.input_stride;
  F totals[Rows][Panels];
  for (auto& of_row : totals)
    for (int p = 0; p < Panels; ++p)
      of_row[p] = initial_sum(product, panel + static_cast<size_t>(p));
  for (size_t k = 0; k < product.columns; k += 2) {
    F first[Panels], second[Panels];
    for (int p = 0; p < Panels; ++p)
      load_pair<T>(weights + static_cast<size_t>(p) * product.panel_bytes, k, first[p], second[p]);
    for (int r = 0; r < Rows; ++r) {
      const float* pair = x + static_cast<size_t>(r) * product.input_stride + k;
      const F a = Simd::set1(pair[0]), b = Simd::set1(pair[1]);
      for (int p = 0; p < Panels; ++p)
        totals[r][p] = Simd::fma(second[p], b, Simd::fma(first[p], a, totals[r][p]));
    }
  }
  for (int r = 0; r < Rows; ++r)
    for (int p = 0; p < Panels; ++p)
      finish_row(product, row + static_cast<size_t>(r), panel + static_cast<size_t>(p),
                 totals[r][p]);
}

// All rows against `Panels` panels; few sums at a time would wait for one another.
template <TensorType T, int Panels>
void float_rows(const Product& product, size_t panel) {
  constexpr size_t kTile = Simd::kFloatRows;
  size_t row = product.row_begin;
  for (; row + kTile <= product.row_end; row += kTile)
    float_tile<T, static_cast<int>(kTile), Panels>(product, panel, row);
  for (; row + 2 <= product.row_end; row += 2) float_tile<T, 2, Panels>(product, panel, row);
  for (; row < product.row_end; ++row) float_tile<T, 1, Panels>(product, panel, row);
}

template <class Layout, Planes P>
void quantized_product(const Product& product) {
  using Dot = DotOf<Layout, P>;
  constexpr size_t kPanels = Simd::kPanelTile;
  constexpr size_t kPartRows = Dot::kFewRows;
  constexpr size_t kMostParts = Layout::kGroups == 1 ? Dot::kFewParts : 1;
  const size_t rows = product.row_end - product.row_begin;
  size_t panel = 0;
  if (rows > kPartRows * kMostParts) {
    for (; panel + kPanels <= product.num_panels; panel += kPanels)
      multiply_many<Layout, Dot, P, kPanels>(product, panel);
    for (; panel < product.num_panels; ++panel) multiply_many<Layout, Dot, P, 1>(product, panel);
    return;
  }
  // Parts of nearly equal size, one after the other while a panel is in a near cache.
  const size_t parts = (rows + kPartRows - 1) / kPartRows;
  for (; panel < product.num_panels; ++panel)
    for (size_t part = 0; part < parts; ++part) {
      const size_t first = part * rows / parts, end = (part + 1) * rows / parts;
      multiply_part<Layout, Dot, P, kPartRows>(product, panel, product.row_begin + first,
                                               end - first);
    }
}

template <TensorType T>
void float_product(const Product& product) {
  constexpr int kPanels = static_cast<int>(Simd::kPanelTile), kFewRowsPanels = 4;
  size_t panel = 0;
  if (product.row_end - product.row_begin == 1)
    for (; panel + kFewRowsPanels <= product.num_panels; panel += kFewRowsPanels)
      float_tile<T, 1, kFewRowsPanels>(product, panel, product.row_begin);
  for (; panel + kPanels <= product.num_panels; panel += kPanels)
    float_rows<T, kPanels>(product, panel);
  for (; panel < product.num_panels; ++panel) float_rows<T, 1>(product, panel);
}

ProductKernel product(TensorType type, Planes planes) {
  ProductKernel kernel = nullptr;
  if (type == TensorType::kF32) return float_product<TensorType::kF32>;
  if (type == TensorType::kF16) return float_product<TensorType::kF16>;
  if (type == TensorType::kBF16) return float_product<TensorType::kBF16>;
  lepton::visit_quantized(type, [&]<TensorType T>() {
    kernel = planes == Planes::kTwo ? quantized_product<LayoutOf<T>, Planes::kTwo>
                                    : quantized_product<LayoutOf<T>, Planes::kAdaptive>;
  });
  return kernel;
}

ProductKernel split_product(Planes planes) {
  return planes == Planes::kTwo ? quantized_product<lepton::SplitLayout, Planes::kTwo>
                                : quantized_product<lepton::SplitLayout, Planes::kAdaptive>;
}
