#include "pack.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <string>

#include "gguf_blocks.h"
#include "half.h"
#include "kernels.h"

namespace lepton {

namespace {

constexpr size_t kQuadBytes = 4 * kPanelRows;

// The codes of a block as bytes: quad q holds inputs 4q … 4q + 3 of the sixteen outputs.
using Quads = uint8_t[8][kQuadBytes];

template <Codes C>
constexpr int kBaseBits = C == Codes::kS8                      ? 8
                          : C == Codes::kU2 || C == Codes::kU3 ? 2
                                                               : 4;
template <Codes C>
constexpr int kExtraBits = C == Codes::kU3 || C == Codes::kU5 ? 1
                           : C == Codes::kU6                  ? 2
                                                              : 0;

// A plane keeps `Bits` bits of each code, those of several quads in each of its vectors: quads v,
// v + V, … in vector v of V if Interleaved, otherwise consecutive ones; from the lowest bits up.
template <int Bits, bool Interleaved>
struct Plane {
  static constexpr int kVectors = Bits;
  static constexpr int kQuads = 8 / Bits;  // in one vector
  static constexpr int kMask = (1 << Bits) - 1;

  // Takes bits `First` … `First` + Bits - 1 of every code.
  template <int First>
  static void pack(const Quads& quads, uint8_t* out) {
    for (int v = 0; v < kVectors; ++v, out += kQuadBytes) {
      for (size_t byte = 0; byte < kQuadBytes; ++byte) {
        int joined = 0;
        for (int i = 0; i < kQuads; ++i) {
          const int quad = Interleaved ? i * kVectors + v : v * kQuads + i;
          joined |= (quads[quad][byte] >> First & kMask) << (i * Bits);
        }
        out[byte] = static_cast<uint8_t>(joined);
      }
    }
  }

  static int get(const uint8_t* plane, int quad, int byte) {
    const int v = Interleaved ? quad % kVectors : quad / kQuads;
    const int i = Interleaved ? quad / kVectors : quad % kQuads;
    return plane[v * static_cast<int>(kQuadBytes) + byte] >> (i * Bits) & kMask;
  }
};

// The bits of a code that come first in a block, and those that follow where it has more.
template <Codes C>
using BasePlane = Plane<kBaseBits<C>, kBaseBits<C> == 4>;
template <Codes C>
using ExtraPlane = Plane<kExtraBits<C>, false>;
template <Codes C>
constexpr size_t kBaseBytes = kBaseBits<C> * kQuadBytes;

template <Codes C>
void pack_codes(const Quads& quads, uint8_t* block) {
  BasePlane<C>::template pack<0>(quads, block);
  if constexpr (kExtraBits<C> != 0)
    ExtraPlane<C>::template pack<kBaseBits<C>>(quads, block + kBaseBytes<C>);
}

template <Codes C>
uint8_t get_code(const uint8_t* block, int output, int input) {
  const int quad = input / 4, byte = output * 4 + input % 4;
  int code = BasePlane<C>::get(block, quad, byte);
  if constexpr (kExtraBits<C> != 0)
    code |= ExtraPlane<C>::get(block + kBaseBytes<C>, quad, byte) << kBaseBits<C>;
  return static_cast<uint8_t>(code);
}

void put_half(uint8_t* p, int index, uint16_t value) { std::memcpy(p + 2 * index, &value, 2); }

float get_half(const uint8_t* p, int index) {
  uint16_t value;
  std::memcpy(&value, p + 2 * index, 2);
  return half_to_float(value);
}

template <class Layout>
void put_scales(const BlockValues& values, int output, uint8_t* super, uint8_t* scales) {
  if constexpr (Layout::kHasSuper) {
    put_half(super, output, values.scale);
    if constexpr (Layout::kHasMinimum) put_half(super + 32, output, values.minimum);
    for (int g = 0; g < Layout::kGroups; ++g) {
      scales[g * kPanelRows + output] = values.scale_multiplier[g];
      if constexpr (Layout::kHasMinimum)
        scales[(Layout::kGroups + g) * kPanelRows + output] = values.minimum_multiplier[g];
    }
  } else {
    put_half(scales, output, values.scale);
    if constexpr (Layout::kHasMinimum) put_half(scales + 32, output, values.minimum);
  }
}

// The block of 32 inputs of all outputs, and the super-block it is part of.
template <class Layout>
struct BlockPlace {
  uint8_t* super;
  uint8_t* codes;
  uint8_t* scales;

  BlockPlace(uint8_t* panel, size_t block)
      : super(panel + block / Layout::kBlocksPerSuper * Layout::kSuperBytes),
        codes(super + Layout::kSuperHeader + block % Layout::kBlocksPerSuper * Layout::kBlockBytes),
        scales(codes + Layout::kCodeBytes) {}
};

template <TensorType T>
void pack_quantized(const uint8_t* rows, size_t stride, int count, size_t columns, uint8_t* panel) {
  using Layout = LayoutOf<T>;
  alignas(kQuadBytes) Quads quads = {};
  for (size_t b = 0; b < columns / kBlockColumns; ++b) {
    const BlockPlace<Layout> place(panel, b);
    for (int output = 0; output < count; ++output) {
      const BlockValues values = read_block<T>(rows + static_cast<size_t>(output) * stride, b);
      for (int q = 0; q < 8; ++q) std::memcpy(&quads[q][output * 4], values.codes + q * 4, 4);
      put_scales<Layout>(values, output, place.super, place.scales);
    }
    pack_codes<Layout::kCodes>(quads, place.codes);
  }
}

template <TensorType T>
void unpack_quantized(const uint8_t* panel, int output, size_t columns, float* out) {
  using Layout = LayoutOf<T>;
  for (size_t b = 0; b < columns / kBlockColumns; ++b) {
    const uint8_t* super = panel + b / Layout::kBlocksPerSuper * Layout::kSuperBytes;
    const uint8_t* block =
        super + Layout::kSuperHeader + b % Layout::kBlocksPerSuper * Layout::kBlockBytes;
    const uint8_t* scales = block + Layout::kCodeBytes;
    for (int i = 0; i < kBlockColumns; ++i) {
      const int group = i * Layout::kGroups / kBlockColumns;
      float scale, minimum = 0.0f;
      if constexpr (Layout::kHasSuper) {
        const uint8_t multiplier = scales[group * kPanelRows + output];
        scale = get_half(super, output) * static_cast<float>(Layout::kSignedMultipliers
                                                                 ? static_cast<int8_t>(multiplier)
                                                                 : static_cast<int>(multiplier));
        if constexpr (Layout::kHasMinimum)
          minimum = -(get_half(super + 32, output) *
                      static_cast<float>(scales[(Layout::kGroups + group) * kPanelRows + output]));
      } else {
        scale = get_half(scales, output);
        if constexpr (Layout::kHasMinimum) minimum = get_half(scales + 32, output);
      }
      const uint8_t code = get_code<Layout::kCodes>(block, output, i);
      int value;
      if constexpr (Layout::kCodes == Codes::kTable4)
        value = kIq4Values[code];
      else if constexpr (Layout::kCodes == Codes::kS8)
        value = static_cast<int8_t>(code);
      else
        value = code - Layout::kOffset;
      const float product = scale * static_cast<float>(value);
      out[b * kBlockColumns + static_cast<size_t>(i)] =
          Layout::kHasMinimum ? product + minimum : product;
    }
  }
}

size_t element_bytes(TensorType type) { return type == TensorType::kF32 ? 4 : 2; }

// Float panels hold one value per output for every input; bf16 interleaves pairs of inputs.
size_t float_index(TensorType type, size_t output, size_t input) {
  if (type == TensorType::kBF16) return input / 2 * 32 + output * 2 + input % 2;
  return input * kPanelRows + output;
}

// Sixteen rows of `words` words become `words` rows of sixteen.
template <size_t WordBytes>
void transpose(const uint8_t* rows, size_t stride, size_t count, size_t words, uint8_t* panel) {
  constexpr size_t kTile = 64 / WordBytes;
  for (size_t first = 0; first < words; first += kTile) {
    const size_t last = std::min(first + kTile, words);
    for (size_t output = 0; output < count; ++output)
      for (size_t k = first; k < last; ++k)
        std::memcpy(panel + (k * kPanelRows + output) * WordBytes,
                    rows + output * stride + k * WordBytes, WordBytes);
  }
}

void pack_float(TensorType type, const uint8_t* rows, size_t stride, size_t count, size_t columns,
                uint8_t* panel) {
  if (type == TensorType::kF32) return transpose<4>(rows, stride, count, columns, panel);
  if (type == TensorType::kF16) return transpose<2>(rows, stride, count, columns, panel);
  transpose<4>(rows, stride, count, columns / 2, panel);
  if (columns % 2 == 0) return;
  for (size_t output = 0; output < count; ++output)
    std::memcpy(panel + float_index(type, output, columns - 1) * 2,
                rows + output * stride + (columns - 1) * 2, 2);
}

float load_float(TensorType type, const uint8_t* p) {
  if (type == TensorType::kF32) {
    float value;
    std::memcpy(&value, p, 4);
    return value;
  }
  uint16_t bits;
  std::memcpy(&bits, p, 2);
  return type == TensorType::kF16 ? half_to_float(bits) : bfloat16_to_float(bits);
}

// Rounds factors to f16, and gives back what they are then.
void round_to_half(float* factors, uint8_t* halves) {
  for (int output = 0; output < kPanelRows; ++output) {
    put_half(halves, output, float_to_half(factors[output]));
    factors[output] = get_half(halves, output);
  }
}

template <TensorType T>
void pack_quantizing(const QuantizeKernels& kernels, TensorType source, const uint8_t* rows,
                     size_t stride, size_t count, size_t columns, uint8_t* panel) {
  using Layout = LayoutOf<T>;
  const size_t block_bytes = kBlockColumns * element_bytes(source);
  alignas(kQuadBytes) uint8_t floats[kBlockColumns * kPanelRows * sizeof(float)] = {};
  alignas(kQuadBytes) Quads quads;
  for (size_t b = 0; b < columns / kBlockColumns; ++b) {
    const BlockPlace<Layout> place(panel, b);
    pack_float(source, rows + b * block_bytes, stride, count, kBlockColumns, floats);
    float weights[kBlockColumns * kPanelRows], scales[kPanelRows], minimums[kPanelRows];
    kernels.fit(T, source, floats, weights, scales, minimums);
    round_to_half(scales, place.scales);
    if constexpr (Layout::kHasMinimum) round_to_half(minimums, place.scales + 32);
    int8_t codes[kBlockColumns * kPanelRows];
    kernels.encode(T, weights, scales, minimums, codes);
    for (int i = 0; i < kBlockColumns; ++i)
      for (int output = 0; output < kPanelRows; ++output)
        quads[i / 4][output * 4 + i % 4] = static_cast<uint8_t>(codes[i * kPanelRows + output]);
    pack_codes<Layout::kCodes>(quads, place.codes);
  }
}

}  // namespace

size_t row_bytes(TensorType type, size_t columns) {
  if (!is_quantized(type)) return columns * element_bytes(type);
  size_t bytes = 0;
  const bool known = visit_quantized(type, [&]<TensorType T>() {
    const size_t unit = static_cast<size_t>(LayoutOf<T>::kBlocksPerSuper) * kBlockColumns;
    if (columns % unit != 0)
      throw std::invalid_argument("columns (" + std::to_string(columns) +
                                  ") must be a multiple of " + std::to_string(unit));
    bytes = columns / unit * kSourceBlockBytes<T>;
  });
  if (!known) throw std::invalid_argument("unknown tensor type");
  return bytes;
}

size_t panel_bytes(TensorType type, size_t columns) {
  row_bytes(type, columns);
  size_t bytes = (columns + 1) / 2 * 2 * kPanelRows * element_bytes(type);
  visit_quantized(type, [&]<TensorType T>() { bytes = LayoutOf<T>::panel_bytes(columns); });
  return bytes;
}

void pack_panel(TensorType type, const uint8_t* rows, size_t stride, int count, size_t columns,
                uint8_t* panel) {
  if (!visit_quantized(
          type, [&]<TensorType T>() { pack_quantized<T>(rows, stride, count, columns, panel); }))
    pack_float(type, rows, stride, static_cast<size_t>(count), columns, panel);
}

void quantize_panel(TensorType type, TensorType source, const QuantizeKernels& kernels,
                    const uint8_t* rows, size_t stride, int count, size_t columns, uint8_t* panel) {
  const auto quantize = type == TensorType::kQ8_0   ? pack_quantizing<TensorType::kQ8_0>
                        : type == TensorType::kQ5_1 ? pack_quantizing<TensorType::kQ5_1>
                                                    : pack_quantizing<TensorType::kQ4_1>;
  quantize(kernels, source, rows, stride, static_cast<size_t>(count), columns, panel);
}

void unpack_row(TensorType type, const uint8_t* panel, int output, size_t columns, float* out) {
  if (is_quantized(type)) {
    visit_quantized(type,
                    [&]<TensorType T>() { unpack_quantized<T>(panel, output, columns, out); });
    return;
  }
  const size_t width = element_bytes(type);
  for (size_t k = 0; k < columns; ++k)
    out[k] = load_float(type, panel + float_index(type, static_cast<size_t>(output), k) * width);
}

}  // namespace lepton
