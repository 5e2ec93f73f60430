#include "split.h"

#include <cstring>

#include "half.h"

namespace lepton {

namespace {

using WholeLayout = LayoutOf<TensorType::kQ8_0>;

// Bytes of one vector of a plane, which holds two quads of codes.
constexpr size_t kVectorBytes = 4 * kPanelRows;

// Standard deviations by which a sum of nibbles may differ from that of evenly drawn ones.
constexpr double kNibbleDeviations = 4.0;

// How many times the variance of evenly drawn ones their mean square may be.
constexpr double kNibblePower = 2.0;

}  // namespace

void split_panel(const uint8_t* panel, size_t columns, uint8_t* high, uint8_t* low) {
  for (size_t b = 0; b < columns / kBlockColumns; ++b) {
    for (size_t i = 0; i < SplitLayout::kCodeBytes; ++i) {
      // The codes of quads v and v + 4, which share a vector, with 128 added.
      const int first = panel[i] ^ 0x80, second = panel[i + 4 * kVectorBytes] ^ 0x80;
      high[i] = static_cast<uint8_t>(first >> 4 | (second & 0xf0));
      low[i] = static_cast<uint8_t>((first & 15) | (second & 15) << 4);
    }
    std::memcpy(high + SplitLayout::kCodeBytes, panel + WholeLayout::kCodeBytes,
                SplitLayout::kScaleBytes);
    panel += WholeLayout::kBlockBytes;
    high += SplitLayout::kBlockBytes;
    low += kLowBlockBytes;
  }
}

bool has_even_nibbles(const uint8_t* high, const uint8_t* low, size_t outputs, size_t columns) {
  double deviations[kPanelRows] = {}, powers[kPanelRows] = {}, variances[kPanelRows] = {};
  for (size_t b = 0; b < columns / kBlockColumns; ++b) {
    int sums[kPanelRows] = {}, squares[kPanelRows] = {};
    for (size_t v = 0; v < kLowBlockBytes; v += kVectorBytes) {
      for (size_t o = 0; o < kPanelRows; ++o) {
        for (size_t i = v + o * 4; i < v + o * 4 + 4; ++i) {
          const int first = low[i] & 15, second = low[i] >> 4;
          sums[o] += first + second;
          squares[o] += first * first + second * second;
        }
      }
    }
    for (size_t o = 0; o < kPanelRows; ++o) {
      uint16_t bits;
      std::memcpy(&bits, high + SplitLayout::kCodeBytes + 2 * o, sizeof bits);
      const double scale = half_to_float(bits), square = scale * scale;
      deviations[o] += scale * (sums[o] - kBlockColumns * kNibbleMean);
      powers[o] += square * (squares[o] - 2.0 * kNibbleMean * sums[o] +
                             kBlockColumns * kNibbleMean * kNibbleMean);
      variances[o] += square * kBlockColumns * kNibbleVariance;
    }
    high += SplitLayout::kBlockBytes;
    low += kLowBlockBytes;
  }
  constexpr double kMost = kNibbleDeviations * kNibbleDeviations;
  for (size_t o = 0; o < outputs; ++o)
    if (deviations[o] * deviations[o] > kMost * variances[o] ||
        powers[o] > kNibblePower * variances[o])
      return false;
  return true;
}

void unpack_split_row(const uint8_t* high, const uint8_t* low, int output, size_t columns,
                      float* out) {
  for (size_t b = 0; b < columns / kBlockColumns; ++b) {
    uint16_t bits;
    std::memcpy(&bits, high + SplitLayout::kCodeBytes + 2 * output, sizeof bits);
    const float scale = half_to_float(bits);
    for (int i = 0; i < kBlockColumns; ++i) {
      const int quad = i / 4, shift = quad / 4 * 4;
      const size_t at =
          static_cast<size_t>(quad % 4) * kVectorBytes + static_cast<size_t>(output * 4 + i % 4);
      const int code = (high[at] >> shift & 15) * 16 + (low[at] >> shift & 15) - 128;
      *out++ = scale * static_cast<float>(code);
    }
    high += SplitLayout::kBlockBytes;
    low += kLowBlockBytes;
  }
}

}  // namespace lepton
