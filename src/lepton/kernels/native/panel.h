// How weights lie in memory.
//
// A matrix of `rows` outputs × `columns` inputs is stored as panels of 16 outputs, each panel as a
// run of blocks of 32 inputs. Within a block the codes (small unsigned integers) come first, in the
// operand order of a four-way byte dot product: "quad" q holds inputs 4q … 4q+3 of all sixteen
// outputs, 64 bytes when every code is a byte, output by output.
//
//   4 bits   4 × 64 bytes; the low nibbles of vector v are quad v, the high nibbles quad v + 4
//   +1 bit   64 more bytes; bit q of each byte belongs to quad q
//   +2 bits  128 more bytes; bits 2(q mod 4) of vector q / 4 belong to quad q
//   8 bits   8 × 64 bytes
//
// Q8_0 can also be split in two planes; see split.h.
//
// A weight is scale · (code - offset) + minimum. Scales follow the codes of their block; types with
// super-blocks of 256 inputs (the "K" types) keep f16 factors per output in front of every eight
// blocks and 8-bit multipliers in the blocks, so that nothing is rounded again.
#pragma once

#include <cstddef>
#include <cstdint>

namespace lepton {

constexpr int kPanelRows = 16;
constexpr int kBlockColumns = 32;

// Codes as in GGUF files.
enum class TensorType : int {
  kF32 = 0,
  kF16 = 1,
  kQ4_0 = 2,
  kQ4_1 = 3,
  kQ5_0 = 6,
  kQ5_1 = 7,
  kQ8_0 = 8,
  kQ2_K = 10,
  kQ3_K = 11,
  kQ4_K = 12,
  kQ5_K = 13,
  kQ6_K = 14,
  kIQ4_NL = 20,
  kIQ4_XS = 23,
  kBF16 = 30,
};

enum class Codes { kU2, kU3, kU4, kU5, kU6, kS8, kTable4, kSplit8 };
enum class Scales {
  kF16,          // 16 × f16
  kF16Minimum,   // 16 × f16 scale, 16 × f16 minimum
  kSuper,        // super-block: 16 × f16; block: u8 or s8 multipliers
  kSuperMinimum  // super-block: 16 × f16 scale, 16 × f16 minimum; block: u8 multipliers of both
};

constexpr bool has_signed_codes(Codes codes) {
  return codes == Codes::kS8 || codes == Codes::kTable4 || codes == Codes::kSplit8;
}

constexpr size_t code_bytes(Codes codes) {
  switch (codes) {
    case Codes::kU2:
      return 128;
    case Codes::kU3:
      return 192;
    case Codes::kU5:
      return 320;
    case Codes::kU6:
      return 384;
    case Codes::kS8:
      return 512;
    default:
      return 256;
  }
}

// One quantized type, described at compile time.
template <Codes C, Scales S, int Offset, int Groups, bool SignedMultipliers = true>
struct QuantizedLayout {
  static constexpr Codes kCodes = C;
  static constexpr Scales kScales = S;
  static constexpr int kOffset = Offset;
  // Groups of inputs with a scale of their own in one block: 1 (of 32) or 2 (of 16).
  static constexpr int kGroups = Groups;
  static constexpr bool kSignedMultipliers = SignedMultipliers;
  static constexpr bool kHasSuper = S == Scales::kSuper || S == Scales::kSuperMinimum;
  static constexpr bool kHasMinimum = S == Scales::kF16Minimum || S == Scales::kSuperMinimum;
  static constexpr int kBlocksPerSuper = kHasSuper ? 8 : 1;
  static constexpr size_t kCodeBytes = code_bytes(C);
  static constexpr size_t kSuperHeader = kHasSuper ? (kHasMinimum ? 64 : 32) : 0;
  static constexpr size_t kScaleBytes =
      kHasSuper ? (kHasMinimum ? 32 : 16) * Groups : (kHasMinimum ? 64 : 32);
  static constexpr size_t kBlockBytes = kCodeBytes + kScaleBytes;
  static constexpr size_t kSuperBytes = kSuperHeader + kBlocksPerSuper * kBlockBytes;

  static constexpr size_t panel_bytes(size_t columns) {
    return columns / (kBlockColumns * kBlocksPerSuper) * kSuperBytes;
  }
};

template <TensorType>
struct LayoutOf;
template <>
struct LayoutOf<TensorType::kQ4_0> : QuantizedLayout<Codes::kU4, Scales::kF16, 8, 1> {};
template <>
struct LayoutOf<TensorType::kQ4_1> : QuantizedLayout<Codes::kU4, Scales::kF16Minimum, 0, 1> {};
template <>
struct LayoutOf<TensorType::kQ5_0> : QuantizedLayout<Codes::kU5, Scales::kF16, 16, 1> {};
template <>
struct LayoutOf<TensorType::kQ5_1> : QuantizedLayout<Codes::kU5, Scales::kF16Minimum, 0, 1> {};
template <>
struct LayoutOf<TensorType::kQ8_0> : QuantizedLayout<Codes::kS8, Scales::kF16, 0, 1> {};
template <>
struct LayoutOf<TensorType::kQ2_K>
    : QuantizedLayout<Codes::kU2, Scales::kSuperMinimum, 0, 2, false> {};
template <>
struct LayoutOf<TensorType::kQ3_K> : QuantizedLayout<Codes::kU3, Scales::kSuper, 4, 2> {};
template <>
struct LayoutOf<TensorType::kQ4_K>
    : QuantizedLayout<Codes::kU4, Scales::kSuperMinimum, 0, 1, false> {};
template <>
struct LayoutOf<TensorType::kQ5_K>
    : QuantizedLayout<Codes::kU5, Scales::kSuperMinimum, 0, 1, false> {};
template <>
struct LayoutOf<TensorType::kQ6_K> : QuantizedLayout<Codes::kU6, Scales::kSuper, 32, 2> {};
template <>
struct LayoutOf<TensorType::kIQ4_NL> : QuantizedLayout<Codes::kTable4, Scales::kF16, 0, 1> {};
template <>
struct LayoutOf<TensorType::kIQ4_XS> : QuantizedLayout<Codes::kTable4, Scales::kSuper, 0, 1> {};

// Values of the sixteen codes of the IQ4 types.
constexpr int8_t kIq4Values[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                   1,    13,   25,  38,  53,  69,  89,  113};

// Calls `visit.template operator()<Type>()` for a quantized type; false for any other.
template <class Visitor>
bool visit_quantized(TensorType type, Visitor&& visit) {
  switch (type) {
#define LEPTON_VISIT(name)                         \
  case TensorType::name:                           \
    visit.template operator()<TensorType::name>(); \
    return true;
    LEPTON_VISIT(kQ4_0)
    LEPTON_VISIT(kQ4_1)
    LEPTON_VISIT(kQ5_0)
    LEPTON_VISIT(kQ5_1)
    LEPTON_VISIT(kQ8_0)
    LEPTON_VISIT(kQ2_K)
    LEPTON_VISIT(kQ3_K)
    LEPTON_VISIT(kQ4_K)
    LEPTON_VISIT(kQ5_K)
    LEPTON_VISIT(kQ6_K)
    LEPTON_VISIT(kIQ4_NL)
    LEPTON_VISIT(kIQ4_XS)
#undef LEPTON_VISIT
    default:
      return false;
  }
}

}  // namespace lepton
