// One ragged step.
#pragma once

#include <cstddef>
#include <cstdint>

namespace lepton {

constexpr size_t kCacheBlockTokens = 16;

// See Batch in executors/base.py.
struct BatchView {
  const int32_t* token_ids;
  const int32_t* positions;
  size_t rows;
  const int32_t* row_starts;
  size_t sequences;
  const int32_t* block_tables;
  size_t table_width;
  const int32_t* logit_rows;
  size_t num_logits;
  const int32_t* num_best;  // or null

  // The block that holds a position of a sequence.
  size_t block(size_t sequence, size_t position) const {
    return static_cast<size_t>(block_tables[sequence * table_width + position / kCacheBlockTokens]);
  }
};

}  // namespace lepton
