// Every kernel, written once over `Simd`. Included by one translation unit per instruction set,
// which is compiled with that set's flags: everything here has internal linkage and calls no
// template of the standard library, so that no wide instruction leaks into code that other units
// share.
//
// Each kernel performs the same operations in the same order on every instruction set (products are
// fused explicitly, never by the compiler), so all of them give the same bits.

#include "kernels.h"

namespace {

using lepton::AttendItem;
using lepton::CacheView;
using lepton::Codes;
using lepton::kBlockColumns;
using lepton::kPanelRows;
using lepton::LayoutOf;
using lepton::Product;
using lepton::ProductKernel;
using lepton::QuantizedRows;
using lepton::Scales;
using lepton::TensorType;

using F = Simd::F;
using I = Simd::I;
using B = Simd::B;

#define LEPTON_INLINE inline __attribute__((always_inline))

LEPTON_INLINE F zero() { return Simd::set1(0.0f); }

// Lanes are combined by halves, the same tree everywhere.
float sum_lanes(F v) {
  float lane[16];
  Simd::store(lane, v);
  for (int width = 8; width > 0; width /= 2)
    for (int i = 0; i < width; ++i) lane[i] += lane[i + width];
  return lane[0];
}

// A NaN in any lane wins.
float max_lanes(F v) {
  float lane[16];
  Simd::store(lane, v);
  float best = lane[0];
  for (int i = 1; i < 16; ++i)
    if (lane[i] > best || lane[i] != lane[i]) best = lane[i];
  return best;
}

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

// ---------------------------------------------------------------- rows

void rms_norm(const float* x, const float* weight, float epsilon, size_t columns, size_t stride,
              float* y) {
  F squares = zero();
  size_t i = 0;
  for (; i + 16 <= columns; i += 16) {
    const F v = Simd::load(x + i);
    squares = Simd::fma(v, v, squares);
  }
  float total = sum_lanes(squares);
  for (size_t j = i; j < columns; ++j) total += x[j] * x[j];
  const float factor = 1.0f / __builtin_sqrtf(total / static_cast<float>(columns) + epsilon);
  const F factors = Simd::set1(factor);
  i = 0;
  for (; i + 16 <= columns; i += 16)
    Simd::store(y + i, Simd::mul(Simd::mul(Simd::load(x + i), factors), Simd::load(weight + i)));
  for (; i < columns; ++i) y[i] = x[i] * factor * weight[i];
  for (; i < stride; ++i) y[i] = 0.0f;
}

void quantize_row(const float* x, size_t row, const QuantizedRows& target) {
  const size_t columns = target.columns;
  for (size_t block = 0; block < columns / kBlockColumns; ++block) {
    const F a = Simd::load(x + block * 32);
    const F b = Simd::load(x + block * 32 + 16);
    const float left = max_lanes(Simd::abs(a)), right = max_lanes(Simd::abs(b));
    const float largest = left > right || left != left ? left : right;
    // Below 2^-119 the scale would be subnormal and its inverse infinite: such a group is zero.
    const bool zero_group = largest < 0x1p-119f;
    const float scale = zero_group ? 0.0f : largest / 127.0f;
    const float inverse = zero_group ? 0.0f : 127.0f / largest;
    target.scales[row * (columns / 32) + block] = scale;
    for (int half = 0; half < 2; ++half) {
      const size_t at = row * columns + block * 32 + static_cast<size_t>(half) * 16;
      const size_t sum_at = at / 16;
      // The limits matter for NaN alone, which the scale carries on.
      const F scaled = Simd::min(
          Simd::max(Simd::mul(half == 0 ? a : b, Simd::set1(inverse)), Simd::set1(-127.0f)),
          Simd::set1(127.0f));
      const I first = Simd::round(scaled);
      Simd::store_int8(target.values[0] + at, first);
      const int32_t first_sum = Simd::sum(first);
      target.integer_sums[0][sum_at] = first_sum;
      float sum = static_cast<float>(first_sum);
      if (target.planes == 2) {
        const F rest = Simd::sub(scaled, Simd::to_float(first));
        const I second = Simd::round(Simd::mul(rest, Simd::set1(254.0f)));
        Simd::store_int8(target.values[1] + at, second);
        const int32_t second_sum = Simd::sum(second);
        target.integer_sums[1][sum_at] = second_sum;
        sum = __builtin_fmaf(static_cast<float>(second_sum), 1.0f / 254.0f, sum);
      }
      target.sums[sum_at] = scale * sum;
    }
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

// ---------------------------------------------------------------- matrix products

// Quad `Q` of a block as 64 bytes: unsigned codes, or signed weights for the 8-bit and table types.
template <Codes C, int Q>
LEPTON_INLINE B load_quad(const uint8_t* block) {
  if constexpr (C == Codes::kS8) {
    return Simd::load_bytes(block + Q * 64);
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
constexpr bool kSigned = C == Codes::kS8 || C == Codes::kTable4;

// Adds quads Begin … End - 1 of one block to the sums of every row and plane.
template <Codes C, int Begin, int End, int Rows, int Planes>
LEPTON_INLINE void add_quads(const uint8_t* block, const int8_t* const (&values)[Planes],
                             size_t row_stride, I (&sums)[Rows][Planes]) {
  const B weights = load_quad<C, Begin>(block);
  for (int r = 0; r < Rows; ++r) {
    for (int p = 0; p < Planes; ++p) {
      const int8_t* four = values[p] + static_cast<size_t>(r) * row_stride + Begin * 4;
      if constexpr (kSigned<C>)
        sums[r][p] = Simd::dot_s8(sums[r][p], weights, four);
      else
        sums[r][p] = Simd::dot(sums[r][p], weights, four);
    }
  }
  if constexpr (Begin + 1 < End)
    add_quads<C, Begin + 1, End, Rows, Planes>(block, values, row_stride, sums);
}

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

LEPTON_INLINE void finish_tile(const Product& product, size_t row, size_t panel, F sum) {
  float* out = product.output + row * product.output_stride + panel * kPanelRows;
  Simd::store(out, product.accumulate ? Simd::add(Simd::load(out), sum) : sum);
}

LEPTON_INLINE F initial_sum(const Product& product, size_t panel) {
  return product.bias ? Simd::load(product.bias + panel * kPanelRows) : zero();
}

template <TensorType T, int Planes, int Rows>
void quantized_tile(const Product& product, size_t panel, size_t row) {
  using Layout = LayoutOf<T>;
  constexpr int kQuads = 8 / Layout::kGroups;
  constexpr int kBias = Layout::kOffset + (kSigned<Layout::kCodes> ? Simd::kSignedBias : 0);
  const QuantizedRows& x = *product.quantized;
  const size_t blocks = x.columns / kBlockColumns;
  const uint8_t* super = product.panels + panel * product.panel_bytes;

  F total[Rows];
  for (F& sum : total) sum = initial_sum(product, panel);

  for (size_t b = 0; b < blocks;) {
    const uint8_t* block = super + Layout::kSuperHeader;
    for (int in_super = 0; in_super < Layout::kBlocksPerSuper; ++in_super, ++b) {
      for (int group = 0; group < Layout::kGroups; ++group) {
        const int8_t* values[Planes];
        for (int p = 0; p < Planes; ++p)
          values[p] = x.values[p] + row * x.columns + b * kBlockColumns;
        const size_t sums_per_row = x.columns / 16;
        const size_t sum_at = row * sums_per_row + b * 2;

        I sums[Rows][Planes];
        for (int r = 0; r < Rows; ++r) {
          for (int p = 0; p < Planes; ++p) {
            if constexpr (kBias == 0) {
              sums[r][p] = Simd::set1(0);
            } else {
              const int32_t* s = x.integer_sums[p] + sum_at + static_cast<size_t>(r) * sums_per_row;
              sums[r][p] = Simd::set1(-kBias * (Layout::kGroups == 2 ? s[group] : s[0] + s[1]));
            }
          }
        }
        if (group == 0)
          add_quads<Layout::kCodes, 0, kQuads, Rows, Planes>(block, values, x.columns, sums);
        else
          add_quads<Layout::kCodes, 8 - kQuads, 8, Rows, Planes>(block, values, x.columns, sums);

        F scale, minimum;
        load_scales<Layout>(super, block, group, scale, minimum);
        for (int r = 0; r < Rows; ++r) {
          const size_t this_row = row + static_cast<size_t>(r);
          F dot = Simd::to_float(sums[r][0]);
          if constexpr (Planes == 2)
            dot = Simd::fma(Simd::to_float(sums[r][1]), Simd::set1(1.0f / 254.0f), dot);
          const F row_scale = Simd::set1(x.scales[this_row * blocks + b]);
          total[r] = Simd::fma(dot, Simd::mul(scale, row_scale), total[r]);
          if constexpr (Layout::kHasMinimum) {
            const float* s = x.sums + sum_at + static_cast<size_t>(r) * sums_per_row;
            const float group_sum = Layout::kGroups == 2 ? s[group] : s[0] + s[1];
            total[r] = Simd::fma(minimum, Simd::set1(group_sum), total[r]);
          }
        }
      }
      block += Layout::kBlockBytes;
    }
    super += Layout::kSuperBytes;
  }
  for (int r = 0; r < Rows; ++r)
    finish_tile(product, row + static_cast<size_t>(r), panel, total[r]);
}

template <TensorType T, int Rows>
void float_tile(const Product& product, size_t panel, size_t row) {
  const uint8_t* weights = product.panels + panel * product.panel_bytes;
  const float* x = product.input + row * product.input_stride;
  // Even and odd inputs are summed apart, which halves the chain of dependent additions.
  F even[Rows], odd[Rows];
  for (int r = 0; r < Rows; ++r) {
    even[r] = initial_sum(product, panel);
    odd[r] = zero();
  }
  for (size_t k = 0; k < product.columns; k += 2) {
    F first, second;
    if constexpr (T == TensorType::kBF16) {
      Simd::load_bf16_pairs(reinterpret_cast<const uint16_t*>(weights) + k * 16, first, second);
    } else if constexpr (T == TensorType::kF16) {
      first = Simd::load_f16(reinterpret_cast<const uint16_t*>(weights) + k * 16);
      second = Simd::load_f16(reinterpret_cast<const uint16_t*>(weights) + k * 16 + 16);
    } else {
      first = Simd::load(reinterpret_cast<const float*>(weights) + k * 16);
      second = Simd::load(reinterpret_cast<const float*>(weights) + k * 16 + 16);
    }
    for (int r = 0; r < Rows; ++r) {
      const float* pair = x + static_cast<size_t>(r) * product.input_stride + k;
      even[r] = Simd::fma(first, Simd::set1(pair[0]), even[r]);
      odd[r] = Simd::fma(second, Simd::set1(pair[1]), odd[r]);
    }
  }
  for (int r = 0; r < Rows; ++r)
    finish_tile(product, row + static_cast<size_t>(r), panel, Simd::add(even[r], odd[r]));
}

template <TensorType T, int Planes>
void quantized_product(const Product& product) {
  constexpr size_t kTile = Simd::kRowTile;
  for (size_t panel = 0; panel < product.num_panels; ++panel) {
    size_t row = product.row_begin;
    for (; row + kTile <= product.row_end; row += kTile)
      quantized_tile<T, Planes, static_cast<int>(kTile)>(product, panel, row);
    for (; row < product.row_end; ++row) quantized_tile<T, Planes, 1>(product, panel, row);
  }
}

template <TensorType T>
void float_product(const Product& product) {
  constexpr size_t kTile = 4;
  for (size_t panel = 0; panel < product.num_panels; ++panel) {
    size_t row = product.row_begin;
    for (; row + kTile <= product.row_end; row += kTile)
      float_tile<T, static_cast<int>(kTile)>(product, panel, row);
    for (; row < product.row_end; ++row) float_tile<T, 1>(product, panel, row);
  }
}

ProductKernel product(TensorType type, int planes) {
  ProductKernel kernel = nullptr;
  if (type == TensorType::kF32) return float_product<TensorType::kF32>;
  if (type == TensorType::kF16) return float_product<TensorType::kF16>;
  if (type == TensorType::kBF16) return float_product<TensorType::kBF16>;
  lepton::visit_quantized(type, [&]<TensorType T>() {
    kernel = planes == 2 ? quantized_product<T, 2> : quantized_product<T, 1>;
  });
  return kernel;
}

// ---------------------------------------------------------------- attention

// Scores of one query head against the 16 tokens of one block: tokens are lanes.
LEPTON_INLINE F block_scores(const float* query, const uint16_t* keys, size_t head_dim) {
  F even = zero(), odd = zero();
  for (size_t d = 0; d < head_dim; d += 2) {
    F first, second;
    Simd::load_bf16_pairs(keys + d * 16, first, second);
    even = Simd::fma(first, Simd::set1(query[d]), even);
    odd = Simd::fma(second, Simd::set1(query[d + 1]), odd);
  }
  return Simd::add(even, odd);
}

// sum[d] += Σ weights[t] · values[t, d] over tokens [begin, end) of one block.
void add_values(const float* weights, const uint16_t* values, size_t padded_dim, size_t begin,
                size_t end, float* sum) {
  for (size_t d = 0; d < padded_dim; d += 16) {
    F total = Simd::load(sum + d);
    for (size_t t = begin / 2 * 2; t < end; t += 2) {
      F first, second;
      Simd::load_bf16_pairs(values + t / 2 * padded_dim * 2 + d * 2, first, second);
      if (t >= begin) total = Simd::fma(first, Simd::set1(weights[t]), total);
      if (t + 1 < end) total = Simd::fma(second, Simd::set1(weights[t + 1]), total);
    }
    Simd::store(sum + d, total);
  }
}

// Two passes over the cache: all scores, then the weighted values. Slots outside [first, last] hold
// whatever an earlier request left there and never enter the arithmetic.
void attend(const AttendItem& item) {
  const CacheView& cache = *item.cache;
  const size_t first_block = item.first / 16, last_block = item.last / 16;
  const size_t span = (last_block - first_block + 1) * 16;
  const size_t skip = item.first - first_block * 16;
  const size_t valid_end = item.last - first_block * 16 + 1;
  float* sum = item.scratch + item.group * span;

  for (size_t b = 0; b < span / 16; ++b) {
    const auto block = static_cast<size_t>(item.block_table[first_block + b]);
    const uint16_t* keys = cache.keys + cache.key_offset(block, item.kv_head);
    for (size_t g = 0; g < item.group; ++g) {
      const F scores = block_scores(item.queries + g * cache.head_dim, keys, cache.head_dim);
      Simd::store(item.scratch + g * span + b * 16, Simd::mul(scores, Simd::set1(item.scale)));
    }
  }
  for (size_t g = 0; g < item.group; ++g) {
    float* scores = item.scratch + g * span;
    for (size_t t = 0; t < skip; ++t) scores[t] = -__builtin_inff();
    for (size_t t = valid_end; t < span; ++t) scores[t] = -__builtin_inff();
    F largest = Simd::load(scores);
    for (size_t t = 16; t < span; t += 16) largest = Simd::max(largest, Simd::load(scores + t));
    const F offset = Simd::set1(max_lanes(largest));
    F total = zero();
    for (size_t t = 0; t < span; t += 16) {
      Simd::store(scores + t, exponential(Simd::sub(Simd::load(scores + t), offset)));
      for (size_t i = t; i < skip; ++i) scores[i] = 0.0f;
      for (size_t i = valid_end; i < t + 16; ++i) scores[i] = 0.0f;
      total = Simd::add(total, Simd::load(scores + t));
    }
    const float inverse = 1.0f / sum_lanes(total);

    for (size_t d = 0; d < cache.padded_dim; ++d) sum[d] = 0.0f;
    for (size_t b = 0; b < span / 16; ++b) {
      const auto block = static_cast<size_t>(item.block_table[first_block + b]);
      const uint16_t* values = cache.values + cache.value_offset(block, item.kv_head);
      const size_t begin = b == 0 ? skip : 0;
      const size_t end = b * 16 + 16 <= valid_end ? 16 : valid_end - b * 16;
      add_values(scores + b * 16, values, cache.padded_dim, begin, end, sum);
    }
    float* out = item.output + g * cache.head_dim;
    for (size_t d = 0; d < cache.head_dim; ++d) out[d] = sum[d] * inverse;
  }
}

constexpr lepton::KernelTable kTable = {
    Simd::kName, rms_norm, quantize_row, silu_gate, gelu_tanh_gate, attend, product,
};

}  // namespace
