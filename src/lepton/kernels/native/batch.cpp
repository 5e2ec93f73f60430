#include "batch.h"

#include <algorithm>

#include "check.h"

namespace lepton {

namespace {

// A block that this step writes to appears once in all tables together.
void check_owners(const BatchView& b, size_t num_blocks, std::vector<uint8_t>& used) {
  used.resize(num_blocks);
  bool owned = true;
  const auto visit = [&](auto&& act) {
    for (size_t s = 0; s < b.sequences; ++s) {
      const int32_t* table = b.block_tables + s * b.table_width;
      const size_t first = static_cast<size_t>(b.positions[b.row_starts[s]]) / kCacheBlockTokens;
      const size_t last =
          static_cast<size_t>(b.positions[b.row_starts[s + 1] - 1]) / kCacheBlockTokens;
      for (size_t i = 0; i <= last; ++i) act(used[static_cast<size_t>(table[i])], i >= first);
    }
  };
  visit([](uint8_t& users, bool) { users = static_cast<uint8_t>(users == 0 ? 1 : 2); });
  visit([&](const uint8_t& users, bool written) { owned &= !written || users == 1; });
  visit([](uint8_t& users, bool) { users = 0; });
  check(owned, "a block is written to and used elsewhere in the same step");
}

}  // namespace

void check_batch(const BatchView& b, size_t vocabulary, size_t num_blocks,
                 std::vector<uint8_t>& block_used) {
  check(b.row_starts[0] == 0 && static_cast<size_t>(b.row_starts[b.sequences]) == b.rows,
        "row_starts must run from 0 to the number of rows");
  const auto tokens = static_cast<int64_t>(vocabulary);
  for (size_t s = 0; s < b.sequences; ++s) {
    check(b.row_starts[s] < b.row_starts[s + 1], "every sequence needs at least one row");
    check(static_cast<size_t>(b.row_starts[s + 1]) <= b.rows, "row_starts are out of range");
    const auto begin = static_cast<size_t>(b.row_starts[s]);
    const auto end = static_cast<size_t>(b.row_starts[s + 1]);
    for (size_t r = begin; r < end; ++r) {
      check(b.token_ids[r] >= 0 && b.token_ids[r] < tokens, "token id outside the vocabulary");
      check(b.positions[r] >= 0 && (r == begin || b.positions[r] == b.positions[r - 1] + 1),
            "positions of a sequence must be consecutive");
    }
    const size_t blocks = static_cast<size_t>(b.positions[end - 1]) / kCacheBlockTokens + 1;
    check(blocks <= b.table_width, "a block table is shorter than its sequence");
    for (size_t i = 0; i < blocks; ++i) {
      const int32_t block = b.block_tables[s * b.table_width + i];
      check(block >= 0 && static_cast<size_t>(block) < num_blocks, "block index out of range");
    }
  }
  check_owners(b, num_blocks, block_used);
  for (size_t i = 0; i < b.num_logits; ++i)
    check(b.logit_rows[i] >= 0 && static_cast<size_t>(b.logit_rows[i]) < b.rows,
          "logit row out of range");
  if (b.num_best != nullptr)
    check(std::all_of(b.num_best, b.num_best + b.num_logits, [](int32_t n) { return n >= 0; }),
          "num_best must not be negative");
}

void NeededRows::select(const BatchView& batch) {
  rows_of_all_ = batch.rows;
  rows_.clear();
  token_ids_.clear();
  positions_.clear();
  row_starts_.assign(1, 0);
  block_tables_.clear();
  place_.assign(batch.rows, kUnwanted);
  for (size_t i = 0; i < batch.num_logits; ++i)
    place_[static_cast<size_t>(batch.logit_rows[i])] = 0;
  for (size_t s = 0; s < batch.sequences; ++s) {
    const auto end = static_cast<size_t>(batch.row_starts[s + 1]);
    auto row = static_cast<size_t>(batch.row_starts[s]);
    while (row < end && place_[row] == kUnwanted) ++row;
    if (row == end) continue;
    for (; row < end; ++row) {
      place_[row] = static_cast<int32_t>(rows_.size());
      rows_.push_back(row);
      token_ids_.push_back(batch.token_ids[row]);
      positions_.push_back(batch.positions[row]);
    }
    row_starts_.push_back(static_cast<int32_t>(rows_.size()));
    const int32_t* table = batch.block_tables + s * batch.table_width;
    block_tables_.insert(block_tables_.end(), table, table + batch.table_width);
  }
  logit_rows_.resize(batch.num_logits);
  for (size_t i = 0; i < batch.num_logits; ++i)
    logit_rows_[i] = place_[static_cast<size_t>(batch.logit_rows[i])];
  view_ = batch;
  view_.token_ids = token_ids_.data();
  view_.positions = positions_.data();
  view_.rows = rows_.size();
  view_.row_starts = row_starts_.data();
  view_.sequences = row_starts_.size() - 1;
  view_.block_tables = block_tables_.data();
  view_.logit_rows = logit_rows_.data();
}

}  // namespace lepton
