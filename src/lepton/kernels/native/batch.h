// One ragged step.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

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

// Throws std::invalid_argument when a batch is inconsistent with itself, the vocabulary or the
// cache. `block_used` is working memory, all zero between calls.
void check_batch(const BatchView& batch, size_t vocabulary, size_t num_blocks,
                 std::vector<uint8_t>& block_used);

// The rows that are still needed once the last keys and values are in the cache: of each sequence
// those from the first on whose logits are wanted.
class NeededRows {
 public:
  void select(const BatchView& batch);

  bool all() const { return rows_.size() == rows_of_all_; }
  // Their place in the whole batch, ascending.
  size_t row(size_t index) const { return rows_[index]; }
  // A batch of these rows alone; points to memory of this object and of the whole batch.
  const BatchView& view() const { return view_; }

 private:
  static constexpr int32_t kUnwanted = -1;

  std::vector<size_t> rows_;
  std::vector<int32_t> place_;  // of each row of the whole batch among the needed ones
  std::vector<int32_t> token_ids_, positions_, row_starts_, block_tables_, logit_rows_;
  size_t rows_of_all_ = 0;
  BatchView view_{};
};

}  // namespace lepton
