// Attention over the paged cache. Part of kernels.inl.
//
// Several queries of one KV head (the heads of a group, consecutive rows of a prompt) form a tile,
// so that keys and values are loaded and converted once for all of them. A tile passes over
// segments of the context: all scores of a segment, then its weighted values, then both are merged
// with what earlier segments gave (arXiv:1805.02867). Segments lie at fixed positions and every
// query does the same operations in the same order in any tile, so neither tiling nor splitting
// changes a bit.

using lepton::AttendItem;
using lepton::AttendState;
using lepton::CacheType;
using lepton::kSegmentTokens;

// Two neighbouring vectors of the cache as floats: two dimensions of 16 keys, or two tokens'
// values.
struct BFloat16Cache {
  static constexpr size_t kPairBytes = 64;
  static constexpr bool kScaled = false;
  static constexpr bool kRounded = false;
  static F first(const uint8_t* p) {
    F even, odd;
    Simd::load_bf16_pairs(reinterpret_cast<const uint16_t*>(p), even, odd);
    return even;
  }
  static F second(const uint8_t* p) {
    F even, odd;
    Simd::load_bf16_pairs(reinterpret_cast<const uint16_t*>(p), even, odd);
    return odd;
  }
};
// Queries and weights are rounded to bf16 as well.
struct RoundedCache : BFloat16Cache {
  using Pairs = Simd;  // a dependent name for what only some instruction sets have
  static constexpr bool kRounded = true;
};
struct Int8Cache {
  static constexpr size_t kPairBytes = 32;
  static constexpr bool kScaled = true;
  static constexpr bool kRounded = false;
  static F first(const uint8_t* p) { return Simd::load_s8(p); }
  static F second(const uint8_t* p) { return Simd::load_s8(p + 16); }
};

// Whether pairs of bf16 are multiplied as they are. The instruction adds the odd product, rounds,
// adds the even one and rounds again; everything else here does the same in two steps.
template <class Cache>
constexpr bool kPairProducts = Cache::kRounded && Simd::kPairProducts;

// totals[q] += vector · factors[q · stride]
template <int Tile>
LEPTON_INLINE void accumulate(F vector, const float* factors, size_t stride, F (&totals)[Tile]) {
  for (int q = 0; q < Tile; ++q)
    totals[q] = Simd::fma(vector, Simd::set1(factors[q * stride]), totals[q]);
}

// totals[q] += second · factors[q · stride + step] + first · factors[q · stride], for the pair of
// vectors at `pair`; factors of pair products are bf16, 2 · stride from query to query.
template <class Cache, int Tile>
LEPTON_INLINE void accumulate_pair(const uint8_t* pair, const float* factors, size_t step,
                                   size_t stride, F (&totals)[Tile]) {
  if constexpr (kPairProducts<Cache>) {
    const I both = Cache::Pairs::load_pairs(pair);
    for (int q = 0; q < Tile; ++q)
      totals[q] =
          Cache::Pairs::dot_pairs(totals[q], both, factors + static_cast<size_t>(q) * stride);
  } else {
    accumulate<Tile>(Cache::second(pair), factors + step, stride, totals);
    accumulate<Tile>(Cache::first(pair), factors, stride, totals);
  }
}

// Tokens of a segment that a query sees: [begin, end).
struct TokenRange {
  size_t begin, end;

  bool empty() const { return begin >= end; }
};

// One segment of the context for one tile of queries.
struct AttendTile {
  const AttendItem& item;
  const int32_t* blocks;  // of the segment
  // [head_dim, tile]; for pair products bf16 [head_dim / 2, tile, 2]
  const float* queries;
  const TokenRange* ranges;  // per query
  // [tile, kSegmentTokens]: scores, then their exponentials; for pair products these are bf16 in
  // the first half of each row.
  float* weights;
  float* sums;  // [tile, padded_dim]: Σ weight · value

  const uint8_t* keys(size_t block) const {
    return item.cache->unit(static_cast<size_t>(blocks[block]), item.kv_head);
  }
  const uint8_t* values(size_t block) const { return keys(block) + item.cache->values_offset(); }
  const float* scales(size_t block) const {
    return reinterpret_cast<const float*>(keys(block) + item.cache->scales_offset());
  }
};

// Vectors side by side that a tile works on: with few queries their sums alone would wait for one
// another.
template <int Tile>
constexpr int kAbreast = Simd::kAttendSums > Tile ? Simd::kAttendSums / Tile : 1;

// Scores of `Tile` queries against `Abreast` blocks of a segment: tokens are lanes.
template <class Cache, int Tile, int Abreast>
LEPTON_INLINE void score_abreast(const AttendTile& tile, size_t begin, size_t end) {
  const size_t pairs = tile.item.cache->head_dim / 2;
  const uint8_t *keys[Abreast], *ahead[Abreast];
  F totals[Abreast][Tile];
  for (size_t b = 0; b < Abreast; ++b) {
    const size_t next = begin + Abreast + b;
    keys[b] = tile.keys(begin + b);
    ahead[b] = next < end ? tile.keys(next) : tile.values(begin + b);
    for (F& total : totals[b]) total = zero();
  }
  const float* query = tile.queries;
  for (size_t i = 0; i < pairs; ++i, query += kPairProducts<Cache> ? Tile : 2 * Tile) {
    const size_t at = i * Cache::kPairBytes;
    for (size_t b = 0; b < Abreast; ++b) {
      __builtin_prefetch(ahead[b] + at);
      accumulate_pair<Cache, Tile>(keys[b] + at, query, Tile, 1, totals[b]);
    }
  }
  for (size_t b = 0; b < Abreast; ++b) {
    F factor = Simd::set1(tile.item.scale);
    if constexpr (Cache::kScaled) factor = Simd::mul(factor, Simd::load(tile.scales(begin + b)));
    for (int q = 0; q < Tile; ++q)
      Simd::store(tile.weights + q * kSegmentTokens + (begin + b) * 16,
                  Simd::mul(totals[b][q], factor));
  }
}

// Scores of `Tile` queries against blocks [begin, end) of a segment.
template <class Cache, int Tile>
void score_blocks(const AttendTile& tile, size_t begin, size_t end) {
  constexpr size_t kWide = kAbreast<Tile>;
  for (; begin + kWide <= end; begin += kWide) score_abreast<Cache, Tile, kWide>(tile, begin, end);
  for (; begin < end; ++begin) score_abreast<Cache, Tile, 1>(tile, begin, end);
}

// Adds the weighted values of blocks [begin, end) for all queries of a tile, `Abreast` vectors of
// dimensions from `first` on: dimensions are lanes.
template <class Cache, int Tile, int Abreast>
LEPTON_INLINE void add_abreast(const AttendTile& tile, size_t begin, size_t end, size_t first) {
  constexpr size_t kPerFloat = kPairProducts<Cache> ? 2 : 1;
  constexpr size_t kVectorBytes = 8 * Cache::kPairBytes;  // of sixteen dimensions in a block
  float* sums = tile.sums + first;
  const size_t padded_dim = tile.item.cache->padded_dim, offset = first / 16 * kVectorBytes;
  F totals[Abreast][Tile];
  for (size_t v = 0; v < Abreast; ++v)
    for (int q = 0; q < Tile; ++q)
      totals[v][q] = Simd::load(sums + static_cast<size_t>(q) * padded_dim + v * 16);
  for (size_t b = begin; b < end; ++b) {
    const uint8_t* values = tile.values(b) + offset;
    const uint8_t* ahead = tile.values(b + 1 < end ? b + 1 : b) + offset;
    const float* weights = tile.weights + b * 16 / kPerFloat;
    for (size_t t = 0; t < 16; t += 2) {
      for (size_t v = 0; v < Abreast; ++v) {
        const size_t at = v * kVectorBytes + t / 2 * Cache::kPairBytes;
        __builtin_prefetch(ahead + at);
        accumulate_pair<Cache, Tile>(values + at, weights + t / kPerFloat, 1, kSegmentTokens,
                                     totals[v]);
      }
    }
  }
  for (size_t v = 0; v < Abreast; ++v)
    for (int q = 0; q < Tile; ++q)
      Simd::store(sums + static_cast<size_t>(q) * padded_dim + v * 16, totals[v][q]);
}

// The same for all dimensions.
template <class Cache, int Tile>
void add_blocks(const AttendTile& tile, size_t begin, size_t end) {
  constexpr size_t kWide = kAbreast<Tile>;
  const size_t padded_dim = tile.item.cache->padded_dim;
  size_t d = 0;
  for (; d + kWide * 16 <= padded_dim; d += kWide * 16)
    add_abreast<Cache, Tile, kWide>(tile, begin, end, d);
  for (; d < padded_dim; d += 16) add_abreast<Cache, Tile, 1>(tile, begin, end, d);
}

// The weighted values of single tokens for one query, block by block.
template <class Cache>
void add_tokens(const AttendTile& tile, size_t query, TokenRange range) {
  const size_t padded_dim = tile.item.cache->padded_dim;
  const float* weights = tile.weights + query * kSegmentTokens;
  const auto weight = [&](size_t t) __attribute__((always_inline)) {
    if constexpr (kPairProducts<Cache>)
      return Cache::Pairs::set1_bf16(reinterpret_cast<const uint16_t*>(weights)[t]);
    else
      return Simd::set1(weights[t]);
  };
  while (!range.empty()) {
    const size_t block = range.begin / 16 * 16;
    const size_t end = range.end < block + 16 ? range.end : block + 16;
    const uint8_t* values = tile.values(block / 16);
    for (size_t d = 0; d < padded_dim; d += 16) {
      float* sum = tile.sums + query * padded_dim + d;
      F total = Simd::load(sum);
      for (size_t t = range.begin / 2 * 2; t < end; t += 2) {
        const uint8_t* pair = values + (d / 2 + (t - block) / 2) * Cache::kPairBytes;
        if (t + 1 < end) total = Simd::fma(Cache::second(pair), weight(t + 1), total);
        if (t >= range.begin) total = Simd::fma(Cache::first(pair), weight(t), total);
      }
      Simd::store(sum, total);
    }
    range.begin = end;
  }
}

// Scores to weights e^(score - largest). Slots outside the range hold whatever an earlier request
// left there: they count for nothing.
template <class Cache>
void exponentiate(const AttendTile& tile, size_t query, AttendState& state) {
  const TokenRange range = tile.ranges[query];
  float* weights = tile.weights + query * kSegmentTokens;
  const size_t begin = range.begin / 16 * 16, end = (range.end + 15) / 16 * 16;
  const auto fill_outside = [&](float value) {
    for (size_t t = begin; t < range.begin; ++t) weights[t] = value;
    for (size_t t = range.end; t < end; ++t) weights[t] = value;
  };
  fill_outside(-__builtin_inff());
  F largest = Simd::load(weights + begin);
  for (size_t t = begin + 16; t < end; t += 16)
    largest = Simd::max(largest, Simd::load(weights + t));
  state.largest = Simd::max_lanes(largest);
  const F offset = Simd::set1(state.largest);
  for (size_t t = begin; t < end; t += 16) {
    const F weight = exponential(Simd::sub(Simd::load(weights + t), offset));
    Simd::store(weights + t, Cache::kRounded ? Simd::round_to_bf16(weight) : weight);
  }
  fill_outside(0.0f);
  F total = zero();
  for (size_t t = begin; t < end; t += 16) {
    const F weight = Simd::load(weights + t);
    total = Simd::add(total, weight);
    if constexpr (Cache::kScaled)
      Simd::store(weights + t, Simd::mul(weight, Simd::load(tile.scales(t / 16) + 16)));
    if constexpr (kPairProducts<Cache>)  // never ahead of what is still to be read
      Cache::Pairs::store_bf16(reinterpret_cast<uint16_t*>(weights) + t, weight);
  }
  state.total = Simd::sum_lanes(total);
}

// state += part: both are brought to the larger of their maxima.
void merge_attention(size_t padded_dim, const AttendState& part, const float* part_sums,
                     AttendState& state, float* sums) {
  if (part.total == 0.0f) return;  // nothing seen
  const float largest = part.largest > state.largest ? part.largest : state.largest;
  const auto power = [](float x) {
    float lane[16];
    Simd::store(lane, exponential(Simd::set1(x)));
    return lane[0];
  };
  const float keep = power(state.largest - largest), take = power(part.largest - largest);
  state.largest = largest;
  state.total = state.total * keep + part.total * take;
  for (size_t d = 0; d < padded_dim; d += 16)
    Simd::store(sums + d, Simd::fma(Simd::load(part_sums + d), Simd::set1(take),
                                    Simd::mul(Simd::load(sums + d), Simd::set1(keep))));
}

// One segment for one tile, merged into the states of its queries.
template <class Cache, int Tile>
void attend_segment(const AttendTile& tile, AttendState* states, float* sums) {
  const size_t padded_dim = tile.item.cache->padded_dim;
  size_t first = kSegmentTokens, last = 0;               // seen by any query
  size_t common_begin = 0, common_end = kSegmentTokens;  // whole blocks seen by all of them
  for (int q = 0; q < Tile; ++q) {
    const TokenRange range = tile.ranges[q];
    if (range.begin > common_begin) common_begin = range.begin;
    if (range.end < common_end) common_end = range.end;
    if (range.empty()) continue;
    if (range.begin < first) first = range.begin;
    if (range.end > last) last = range.end;
  }
  if (first >= last) return;
  score_blocks<Cache, Tile>(tile, first / 16, (last + 15) / 16);
  AttendState parts[Tile];
  for (int q = 0; q < Tile; ++q)
    if (!tile.ranges[q].empty()) exponentiate<Cache>(tile, static_cast<size_t>(q), parts[q]);

  common_begin = (common_begin + 15) / 16 * 16;
  common_end = common_end / 16 * 16;
  const bool shared = common_begin < common_end;
  for (size_t i = 0; i < Tile * padded_dim; i += 16) Simd::store(tile.sums + i, zero());
  for (int q = 0; q < Tile; ++q) {
    const TokenRange range = tile.ranges[q];
    add_tokens<Cache>(tile, static_cast<size_t>(q),
                      {range.begin, shared ? common_begin : range.end});
  }
  if (shared) {
    add_blocks<Cache, Tile>(tile, common_begin / 16, common_end / 16);
    for (int q = 0; q < Tile; ++q)
      add_tokens<Cache>(tile, static_cast<size_t>(q), {common_end, tile.ranges[q].end});
  }
  for (int q = 0; q < Tile; ++q)
    merge_attention(padded_dim, parts[q], tile.sums + q * padded_dim, states[q],
                    sums + q * padded_dim);
}

using SegmentKernel = void (*)(const AttendTile&, AttendState*, float*);

// The kernel for a tile of `size` queries, at most `Tile`.
template <class Cache, int Tile = Simd::kQueryTile>
SegmentKernel segment_kernel(size_t size) {
  if constexpr (Tile > 1)
    if (size < Tile) return segment_kernel<Cache, Tile - 1>(size);
  return attend_segment<Cache, Tile>;
}

// Queries begin … begin + count - 1 as a tile takes them.
template <class Cache>
LEPTON_INLINE void pack_queries(const AttendItem& item, size_t begin, size_t count, float* packed) {
  const size_t head_dim = item.cache->head_dim;
  for (size_t q = 0; q < count; ++q) {
    const float* query = item.query(begin + q);
    if constexpr (!Cache::kRounded) {
      for (size_t d = 0; d < head_dim; ++d) packed[d * count + q] = query[d];
    } else {
      for (size_t d = 0; d < head_dim; d += 16) {
        // Rows of queries have room for whole vectors.
        float lanes[16];
        Simd::store(lanes, Simd::round_to_bf16(Simd::load(query + d)));
        const size_t end = head_dim - d < 16 ? head_dim - d : 16;
        if constexpr (kPairProducts<Cache>) {
          for (size_t i = 0; i < end; i += 2)
            Cache::Pairs::join_bf16(lanes + i, packed + (d + i) / 2 * count + q);
        } else {
          for (size_t i = 0; i < end; ++i) packed[(d + i) * count + q] = lanes[i];
        }
      }
    }
  }
}

template <class Cache>
void attend_in(const AttendItem& item) {
  const size_t head_dim = item.cache->head_dim, padded_dim = item.cache->padded_dim;
  const size_t queries = item.rows * item.group;
  const size_t num_tiles = (queries + Simd::kQueryTile - 1) / Simd::kQueryTile;
  const size_t size = (queries + num_tiles - 1) / num_tiles;
  // One tile after another, dimension by dimension.
  float* packed = item.scratch;
  float* weights = packed + queries * head_dim;
  float* sums = weights + Simd::kQueryTile * kSegmentTokens;
  for (size_t begin = 0; begin < queries; begin += size) {
    const size_t count = queries - begin < size ? queries - begin : size;
    pack_queries<Cache>(item, begin, count, packed + begin * head_dim);
  }
  for (size_t segment = item.segment_begin; segment < item.segment_end; ++segment) {
    const size_t start = segment * kSegmentTokens;
    for (size_t begin = 0; begin < queries; begin += size) {
      const size_t count = queries - begin < size ? queries - begin : size;
      TokenRange ranges[Simd::kQueryTile];
      for (size_t q = 0; q < count; ++q) {
        const size_t end = item.position + (begin + q) / item.group + 1;
        const size_t first = end > item.window ? end - item.window : 0;
        ranges[q].begin = first > start ? first - start : 0;
        ranges[q].end = end <= start ? 0 : end - start;
        if (ranges[q].end > kSegmentTokens) ranges[q].end = kSegmentTokens;
      }
      const AttendTile tile{
          item, item.block_table + start / 16, packed + begin * head_dim, ranges, weights, sums};
      segment_kernel<Cache>(count)(tile, item.states + begin, item.sums + begin * padded_dim);
    }
  }
}

void attend(const AttendItem& item) {
  if (item.cache->type == CacheType::kInt8)
    attend_in<Int8Cache>(item);
  else if (item.rounded)
    attend_in<RoundedCache>(item);
  else
    attend_in<BFloat16Cache>(item);
}
