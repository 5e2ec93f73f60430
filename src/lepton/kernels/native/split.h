// A Q8_0 matrix held in two planes, so that the weightier half of every code can be read alone.
//
// A signed code is 16 · h + l with h in -8 … 7 and l in 0 … 15. The high plane is panels as those
// of Q4_0, of codes h + 8 and scales; the low plane holds the nibbles l in the same order, without
// scales. Together they take what Q8_0 panels take.
#pragma once

#include <cstddef>
#include <cstdint>

#include "panel.h"

namespace lepton {

// Of the high plane; kernels find the low one beside it.
struct SplitLayout : QuantizedLayout<Codes::kSplit8, Scales::kF16, 0, 1> {};

constexpr size_t kLowBlockBytes = SplitLayout::kCodeBytes;

// Mean and variance of a number drawn evenly from 0 … 15.
constexpr double kNibbleMean = 7.5;
constexpr double kNibbleVariance = (16.0 * 16.0 - 1.0) / 12.0;

constexpr size_t low_panel_bytes(size_t columns) {
  return columns / kBlockColumns * kLowBlockBytes;
}

// Splits a panel of Q8_0.
void split_panel(const uint8_t* panel, size_t columns, uint8_t* high, uint8_t* low);

// Whether, for each of the first `outputs` outputs, the low nibbles have mean and variance of
// numbers drawn evenly from 0 … 15, within what chance and trained weights show; scales weigh them.
bool has_even_nibbles(const uint8_t* high, const uint8_t* low, size_t outputs, size_t columns);

// Writes the `columns` weights of one output as float32, exactly as Q8_0 defines them.
void unpack_split_row(const uint8_t* high, const uint8_t* low, int output, size_t columns,
                      float* out);

}  // namespace lepton
