// Sixteen-bit floating point.
#pragma once

#include <cstdint>
#include <cstring>

namespace lepton {

// Always inlined: units of wide instructions use these too, and must leave no copy to the linker.
#define LEPTON_HALF [[gnu::always_inline]] inline

LEPTON_HALF float bits_to_float(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

LEPTON_HALF uint32_t float_to_bits(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

LEPTON_HALF float bfloat16_to_float(uint16_t bits) {
  return bits_to_float(static_cast<uint32_t>(bits) << 16);
}

// Nearest, ties to even; a NaN stays a NaN.
LEPTON_HALF uint16_t float_to_bfloat16(float value) {
  const uint32_t bits = float_to_bits(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>(bits >> 16 | 0x40);
  return static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1)) >> 16);
}

// As the hardware converts: exact, and a NaN becomes a quiet one.
LEPTON_HALF float half_to_float(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000) << 16;
  const uint32_t magnitude = half & 0x7fff;
  if (magnitude > 0x7c00) return bits_to_float(sign | 0x7fc00000u | magnitude << 13);
  if (magnitude == 0x7c00) return bits_to_float(sign | 0x7f800000u);
  if (magnitude >= 0x0400) return bits_to_float(sign | ((magnitude << 13) + (112u << 23)));
  return bits_to_float(sign | float_to_bits(static_cast<float>(magnitude) * 0x1p-24f));
}

// Nearest, ties to even; a NaN stays a NaN, and what is too large becomes infinite.
LEPTON_HALF uint16_t float_to_half(float value) {
  const uint32_t bits = float_to_bits(value);
  const uint32_t sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return static_cast<uint16_t>(sign | 0x7e00);
  if (magnitude >= 0x477ff000u) return static_cast<uint16_t>(sign | 0x7c00);
  // Below 2^-14 halves are subnormal: adding 1/2 leaves their bits in the lowest places.
  if (magnitude < 0x38800000u)
    return static_cast<uint16_t>(
        sign | (float_to_bits(bits_to_float(magnitude) + 0.5f) - float_to_bits(0.5f)));
  const uint32_t even = magnitude >> 13 & 1;
  return static_cast<uint16_t>(sign | ((magnitude - (112u << 23) + 0xfff + even) >> 13));
}

#undef LEPTON_HALF

}  // namespace lepton
