// Attention inside one text, forwards and backwards. Part of encoder_kernels.inl.
//
// Keys are packed into panels of 16 tokens and values into panels of 16 dimensions, so that scores
// and weighted sums are products like any other: a tile of queries passes over the keys it sees,
// its scores become exponentials, and these pass over the values. Both products and the softmax of
// a row do the same in any tile.

constexpr size_t whole_lanes(size_t count) { return (count + kLanes - 1) / kLanes * kLanes; }

#ifdef LEPTON_HALF_PRODUCTS
// Sixteen pairs of bf16, of which one row is first and the other second.
LEPTON_INLINE void store_pairs(uint8_t* to, const uint8_t* first, const uint8_t* second) {
  const auto wide = [](const uint8_t* p) {
    return _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  };
  _mm512_storeu_si512(to, _mm512_or_si512(wide(first), _mm512_slli_epi32(wide(second), 16)));
}
#endif

using Four = int32_t __attribute__((vector_size(16)));

// Numbers of x, and from 4 on of y.
template <int A, int B, int C, int D>
LEPTON_INLINE Four pick(Four x, Four y) {
#ifdef __clang__
  return __builtin_shufflevector(x, y, A, B, C, D);
#else
  return __builtin_shuffle(x, y, Four{A, B, C, D});
#endif
}

// Four steps of four rows to four rows of four steps, which lie a step of a panel apart.
LEPTON_INLINE void transpose(const uint8_t* rows, size_t stride, int32_t* to) {
  Four row[4];
  for (size_t r = 0; r < 4; ++r) __builtin_memcpy(&row[r], rows + r * stride, sizeof(Four));
  const Four left01 = pick<0, 4, 1, 5>(row[0], row[1]), left23 = pick<0, 4, 1, 5>(row[2], row[3]);
  const Four right01 = pick<2, 6, 3, 7>(row[0], row[1]), right23 = pick<2, 6, 3, 7>(row[2], row[3]);
  const Four columns[4] = {pick<0, 1, 4, 5>(left01, left23), pick<2, 3, 6, 7>(left01, left23),
                           pick<0, 1, 4, 5>(right01, right23), pick<2, 3, 6, 7>(right01, right23)};
  for (size_t k = 0; k < 4; ++k) __builtin_memcpy(to + k * kLanes, &columns[k], sizeof(Four));
}

// Keys [tokens, head_dim] to panels of [steps, 16 tokens]; what fills the last panel is zero.
template <class Step>
void pack_keys(const EncoderAttention& item, uint8_t* panels) {
  const size_t steps = item.head_dim / Step::kInputs, padded = whole_lanes(item.tokens);
  for (size_t t = 0; t < padded; t += 4) {
    auto* panel = reinterpret_cast<int32_t*>(panels + t / kLanes * steps * kStepBytes) + t % kLanes;
    size_t k = 0;
    if (t + 4 <= item.tokens)
      for (; k + 4 <= steps; k += 4)
        transpose(item.keys + t * item.stride + k * 4, item.stride, panel + k * kLanes);
    for (; k < steps; ++k)
      for (size_t r = 0; r < 4; ++r) {
        int32_t& to = panel[k * kLanes + r];
        to = 0;
        if (t + r < item.tokens)
          __builtin_memcpy(&to, item.keys + (t + r) * item.stride + k * 4, sizeof to);
      }
  }
}

// Values [tokens, head_dim] to panels of [steps, 16 dimensions]; what fills up is zero.
template <class Step>
void pack_values(const EncoderAttention& item, uint8_t* panels) {
  const size_t steps = whole_lanes(item.tokens) / Step::kInputs;
  const size_t dims = whole_lanes(item.head_dim);
  alignas(64) static constexpr uint8_t kNothing[kStepBytes] = {};
  uint8_t row[2][kStepBytes] = {};
  for (size_t d = 0; d < dims; d += kLanes) {
    const size_t bytes =
        (d + kLanes <= item.head_dim ? kLanes : item.head_dim - d) * Step::kElement;
    uint8_t* panel = panels + d / kLanes * steps * kStepBytes;
    for (size_t k = 0; k < steps; ++k) {
      const uint8_t* source[2] = {kNothing, kNothing};
      for (size_t i = 0; i < Step::kInputs; ++i) {
        const size_t t = k * Step::kInputs + i;
        if (t >= item.tokens) continue;
        source[i] = item.values + t * item.stride + d * Step::kElement;
        if (bytes == kLanes * Step::kElement) continue;
        __builtin_memcpy(row[i], source[i], bytes);
        source[i] = row[i];
      }
#ifdef LEPTON_HALF_PRODUCTS
      if constexpr (Step::kInputs == 2) {
        store_pairs(panel + k * kStepBytes, source[0], source[1]);
        continue;
      }
#endif
      __builtin_memcpy(panel + k * kStepBytes, source[0], kStepBytes);
    }
  }
}

struct SeenTokens {
  size_t begin, end;
};

LEPTON_INLINE SeenTokens seen_by(const EncoderAttention& item, size_t row) {
  SeenTokens seen{0, item.causal ? row + 1 : item.tokens};
  if (item.window < item.tokens) {
    if (row + 1 > item.window) seen.begin = row + 1 - item.window;
    if (row + item.window < seen.end) seen.end = row + item.window;
  }
  return seen;
}

// Scores [begin, end), whole vectors, of one query to exponentials of those it sees; what it does
// not see becomes zero. Returns one by their sum.
template <class Step>
LEPTON_INLINE float soften(float* scores, SeenTokens seen, size_t begin, size_t end, float scale,
                           uint8_t* weights) {
  constexpr float kLowest = -3.0e38f;
  for (size_t t = begin; t < seen.begin; ++t) scores[t] = kLowest;
  for (size_t t = seen.end; t < end; ++t) scores[t] = kLowest;
  F most = Simd::set1(kLowest);
  for (size_t t = begin; t < end; t += kLanes) most = Simd::max(most, Simd::load(scores + t));
  const F scales = Simd::set1(scale);
  const F offset = Simd::set1(-scale * Simd::max_lanes(most));
  F total = zero();
  for (size_t t = begin; t < end; t += kLanes) {
    // Far below what any weight of use is, exponential() stops falling; those weights are cut off.
    const F power = Simd::keep_at_least(
        exponential(Simd::fma(Simd::load(scores + t), scales, offset)), Simd::set1(1e-30f));
    total = Simd::add(total, power);
    if constexpr (Step::kElement == 2)
      store_half(reinterpret_cast<uint16_t*>(weights) + t, power);
    else
      Simd::store(reinterpret_cast<float*>(weights) + t, power);
  }
  return 1.0f / Simd::sum_lanes(total);
}

// Queries [row, row + R) of one head.
template <class Step, int R>
void attend_tile(const EncoderAttention& item, size_t head, size_t row, const uint8_t* keys,
                 const uint8_t* values, float* scores, uint8_t* weights) {
  constexpr int P = static_cast<int>(kTilePanels);
  const size_t padded = whole_lanes(item.tokens), dims = whole_lanes(item.head_dim);
  const size_t key_steps = item.head_dim / Step::kInputs;
  const size_t head_bytes = item.head_dim * Step::kElement;
  const SeenTokens first = seen_by(item, row), last = seen_by(item, row + R - 1);
  const size_t begin = first.begin / kLanes * kLanes, end = whole_lanes(last.end);
  const uint8_t* queries = item.queries + row * item.stride + head * head_bytes;
  const size_t key_panel = key_steps * kStepBytes;
  const auto score = [&]<int Panels>(size_t t) {
    typename Step::Sum sums[R][Panels];
    sum_tile<Step, R, Panels, false>(queries, item.stride, keys + t / kLanes * key_panel, key_panel,
                                     key_steps, sums[0]);
    for (int r = 0; r < R; ++r)
      for (int p = 0; p < Panels; ++p)
        Simd::store(scores + static_cast<size_t>(r) * padded + t + static_cast<size_t>(p) * kLanes,
                    sums[r][p]);
  };
  size_t t = begin;
  for (; t + P * kLanes <= end; t += P * kLanes) score.template operator()<P>(t);
  for (; t < end; t += kLanes) score.template operator()<1>(t);
  float factors[R];
  const size_t weight_bytes = padded * Step::kElement;
  for (size_t r = 0; r < R; ++r)
    factors[r] = soften<Step>(scores + r * padded, seen_by(item, row + r), begin, end, item.scale,
                              weights + r * weight_bytes);
  const size_t value_panel = padded / Step::kInputs * kStepBytes;
  const auto mix = [&]<int Panels>(size_t d) {
    typename Step::Sum sums[R][Panels];
    sum_tile<Step, R, Panels, false>(
        weights + begin * Step::kElement, weight_bytes,
        values + d / kLanes * value_panel + begin / Step::kInputs * kStepBytes, value_panel,
        (end - begin) / Step::kInputs, sums[0]);
    for (size_t r = 0; r < R; ++r) {
      uint8_t* output = item.output + (row + r) * item.output_stride + head * head_bytes;
      for (size_t p = 0; p < Panels; ++p) {
        const size_t at = d + p * kLanes;
        const F value = Simd::mul(sums[r][p], Simd::set1(factors[r]));
        alignas(64) uint8_t lanes[kStepBytes];
        uint8_t* target = at + kLanes <= item.head_dim ? output + at * Step::kElement : lanes;
        if constexpr (Step::kElement == 2)
          store_half(reinterpret_cast<uint16_t*>(target), value);
        else
          Simd::store(reinterpret_cast<float*>(target), value);
        if (target == lanes)
          __builtin_memcpy(output + at * Step::kElement, lanes,
                           (item.head_dim - at) * Step::kElement);
      }
    }
  };
  size_t d = 0;
  for (; d + P * kLanes <= dims; d += P * kLanes) mix.template operator()<P>(d);
  for (; d < dims; d += kLanes) mix.template operator()<1>(d);
}

template <class Step, int R>
LEPTON_INLINE void attend_rows(const EncoderAttention& item, size_t head, size_t row, size_t rows,
                               const uint8_t* keys, const uint8_t* values, float* scores,
                               uint8_t* weights) {
  if (rows >= static_cast<size_t>(R))
    return attend_tile<Step, R>(item, head, row, keys, values, scores, weights);
  if constexpr (R > 1)
    attend_rows<Step, R / 2>(item, head, row, rows, keys, values, scores, weights);
}

// Tiles of the most rows, then of half as many, and so on.
template <class Step>
void attend(const EncoderAttention& item) {
  constexpr size_t kMost = kTileRows;
  const size_t padded = whole_lanes(item.tokens), dims = whole_lanes(item.head_dim);
  uint8_t* keys = item.scratch;
  uint8_t* values = keys + padded * dims * Step::kElement;
  auto* scores = reinterpret_cast<float*>(values + padded * dims * Step::kElement);
  auto* weights = reinterpret_cast<uint8_t*>(scores + kMost * padded);
  pack_keys<Step>(item, keys);
  pack_values<Step>(item, values);
  for (size_t head = 0; head < item.group; ++head) {
    for (size_t row = item.row_begin; row < item.row_end;) {
      const size_t left = item.row_end - row;
      attend_rows<Step, static_cast<int>(kMost)>(item, head, row, left, keys, values, scores,
                                                 weights);
      size_t done = kMost;
      while (done > left) done /= 2;
      row += done;
    }
  }
}

constexpr auto half_attention() -> void (*)(const EncoderAttention&) {
#ifdef LEPTON_HALF_PRODUCTS
  return attend<HalfStep>;
#else
  return nullptr;
#endif
}
