// Bounds from the high plane of split matrices (see split.h). Part of kernels.inl.

using lepton::HighScan;

// The largest of the first `lanes` numbers.
LEPTON_INLINE float largest_lane(F v, size_t lanes) {
  if (lanes < 16) {
    float lane[16];
    Simd::store(lane, v);
    for (size_t i = lanes; i < 16; ++i) lane[i] = lane[0];
    v = Simd::load(lane);
  }
  return Simd::max_lanes(v);
}

// A high code h stands for 16 · (h + 7.5 / 16): the fraction is a minimum per scale.
using ScanLayout = lepton::QuantizedLayout<Codes::kU4, Scales::kF16Minimum, 8, 1>;

// Rows `first` … first + Rows - 1 of one panel.
template <int Rows>
void scan_panel(const HighScan& scan, size_t panel, size_t first, F& not_finite) {
  using Dot = DotOf<ScanLayout, Planes::kOne>;
  const QuantizedRows& x = *scan.inputs;
  F totals[Rows], variances[Rows];
  for (int r = 0; r < Rows; ++r) totals[r] = variances[r] = zero();
  visit_blocks<lepton::SplitLayout>(
      scan.panels + panel * scan.panel_bytes, x.columns / kBlockColumns,
      [&](const uint8_t*, const uint8_t* codes, size_t b) __attribute__((always_inline)) {
        PackedBlock<ScanLayout, Dot> block[1] = {{codes, nullptr, {}, {}, {}}};
        F& scale = block[0].scale[0];
        load_scales<lepton::SplitLayout>(codes, codes, 0, scale, scale);
        block[0].base[0] = Dot::base(scale);
        block[0].minimum[0] = Simd::mul(scale, Simd::set1(7.5f / 16.0f));
        const F squares = Simd::mul(scale, scale);
        const size_t at = b * x.rows + first;
        for (int r = 0; r < Rows; ++r)
          variances[r] = Simd::fma(squares, Simd::set1(scan.powers[at + static_cast<size_t>(r)]),
                                   variances[r]);
        add_groups<ScanLayout, Dot, Planes::kOne, 0, Rows, 1>(x, at, block, totals);
      });
  const F bias = scan.bias ? Simd::load(scan.bias + panel * kPanelRows) : zero();
  const size_t left = scan.num_outputs - panel * kPanelRows;
  const size_t lanes = left < kPanelRows ? left : kPanelRows;
  for (int r = 0; r < Rows; ++r) {
    const size_t row = first + static_cast<size_t>(r), at = row * scan.stride + panel;
    const F approximation = Simd::fma(totals[r], Simd::set1(16.0f), bias);
    const F margin = Simd::mul(Simd::sqrt(variances[r]), Simd::set1(scan.margins[row]));
    const F upper = Simd::add(approximation, margin);
    not_finite = Simd::fma(upper, zero(), not_finite);
    scan.lower[at] = largest_lane(Simd::sub(approximation, margin), lanes);
    scan.upper[at] = largest_lane(upper, lanes);
  }
}

bool scan_high(const HighScan& scan) {
  constexpr void (*kFew[])(const HighScan&, size_t, size_t, F&) = {
      scan_panel<1>, scan_panel<2>, scan_panel<3>, scan_panel<4>, scan_panel<5>, scan_panel<6>};
  constexpr size_t kMost = sizeof kFew / sizeof *kFew;
  // Parts of nearly equal size, one after the other while a panel is in a near cache.
  const size_t rows = scan.inputs->rows, parts = (rows + kMost - 1) / kMost;
  F not_finite = zero();
  for (size_t panel = 0; panel < scan.num_panels; ++panel) {
    for (size_t part = 0; part < parts; ++part) {
      const size_t first = part * rows / parts, end = (part + 1) * rows / parts;
      kFew[end - first - 1](scan, panel, first, not_finite);
    }
  }
  return Simd::sum_lanes(not_finite) == 0.0f;
}
